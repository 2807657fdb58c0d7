"""The line that people see while a study runs."""

import io
import json

import pytest

from immunization.tools.progress import Progress, last_lines


def run_of_three(**given):
    progress = Progress(io.StringIO(), clock=0.0, **given)
    progress.plan({"prepare": 1, "attack": 2, "all": 1, "total": 4})
    return progress


def test_time_left_weighs_jobs_by_what_similar_ones_took():
    progress = run_of_three()
    progress.job(1, "prepare", ["digits"], "", "")
    progress.clock = 2.0
    progress.finish(1)
    progress.job(2, "attack", ["digits", "trained"], "", "")
    progress.clock = 102.0
    progress.finish(2)
    progress.job(3, "attack", ["mnist", "trained"], "", "")
    share, left = progress.remaining()
    assert left == pytest.approx(100)  # as the other attack took, not as the preparation
    assert share == pytest.approx(102 / 202)
    progress.clock = 152.0
    assert progress.remaining()[1] == pytest.approx(50)
    told = progress.out.getvalue().splitlines()
    assert told[0].startswith("prepare digits: done in 2 s (1 of 3 jobs")
    assert told[1].startswith("attack digits trained: done in 2 min (2 of 3 jobs, 50 % of the work")


def test_an_earlier_runs_benchmarks_are_the_first_estimate(tmp_path):
    (tmp_path / "attack").mkdir()
    (tmp_path / "attack" / "a.jsonl").write_text(json.dumps({"s": 7.0}) + "\n")
    (tmp_path / "attack" / "broken.jsonl").write_text("{")
    progress = run_of_three()
    progress.known(tmp_path)
    assert progress.seconds_of("attack") == 7.0
    assert progress.seconds_of("figure_slowdown") != 7.0


def test_a_terminal_has_one_line_and_a_file_a_line_a_job():
    for tty in (True, False):
        progress = run_of_three(tty=tty)
        progress.job(1, "prepare", ["digits"], "", "")
        progress.finish(1)
        progress.end("results/x/report.html")
        text = progress.out.getvalue()
        assert ("\r\x1b[2K" in text) == tty
        assert "Done" not in text  # two jobs never ran
        assert text.count("\n") == (0 if tty else 1)


def test_a_failed_job_shows_the_end_of_its_own_log_and_what_to_do(tmp_path):
    log = tmp_path / "attack.log"
    log.write_text("12:00:00 working\n" * 40 + "error: the disk is full.\nMake room.\n")
    progress = run_of_three()
    progress.job(2, "attack", ["digits", "trained"], str(log), "")
    progress.error(2, "attack", [str(log)])
    progress.end()
    text = progress.out.getvalue()
    assert text.startswith(
        "attack digits trained failed:\n  error: the disk is full.\n  Make room."
    )
    assert "working" not in text
    assert "1 job failed: attack digits trained. What was done is saved" in text


def test_a_log_without_a_message_shows_its_last_lines(tmp_path):
    log = tmp_path / "a.log"
    log.write_text("".join(f"line {n}\n" for n in range(40)))
    assert last_lines(log) == [f"line {n}" for n in range(25, 40)]
    assert "no log was written" in last_lines(tmp_path / "none.log")[0]


def test_a_dry_run_lists_jobs_with_their_reasons_once():
    progress = run_of_three(dry=True)
    progress.job(1, "prepare", ["digits"], "", "Missing output files: results/a, results/b")
    progress.plan({"prepare": 1, "attack": 2, "total": 3})
    progress.end("results/x/report.html")
    assert progress.out.getvalue() == (
        "3 jobs would run: 1 prepare, 2 attack.\n  prepare digits: its results are missing\n"
    )
