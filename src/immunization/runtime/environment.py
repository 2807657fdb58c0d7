"""Names of all environment variables that this project reads or sets."""

from __future__ import annotations

OWNER = "IMMUNIZATION_OWNER"
"""Process of the Snakemake that runs a job: without it the job ends."""
STUDY = "IMMUNIZATION_STUDY"
"""What the workflow tells its jobs about the study: JSON with the hash of its ``config``, the
``commit`` of the code, and ``seeds``. By hand all three are unknown."""
MADE_BY = "IMMUNIZATION_MADE_BY"
"""What the workflow asks of a job (see `immunization.runtime.record.stale`)."""
JOBS_PER_GPU = "IMMUNIZATION_JOBS_PER_GPU"
"""The config's `jobs_per_gpu`: how many jobs share a GPU, 1 by default."""
LEDGER = "IMMUNIZATION_LEDGER"
"""Folder of locks on GPUs; by default a user's own in the system's temporary folder, which
processes of all sessions and jobs share."""
TAKE_OVER = "IMMUNIZATION_TAKE_OVER"
"""Name of another machine whose Snakemake is known to be gone."""
ALLOW_CODE = "IMMUNIZATION_ALLOW_CODE"
"""1 where files of code that a config names may be run."""
REPORT = "IMMUNIZATION_REPORT"
"""Where the report of the study that runs will lie, for the last line that people see."""
CHECKED = "IMMUNIZATION_CHECKED"
"""Set where `immunization run` has checked the user's data already."""
