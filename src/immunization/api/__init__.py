"""What people call from Python (`import immunization as im`), without files or Snakemake."""
