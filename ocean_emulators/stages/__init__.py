"""What DVC runs, a module for each stage of `dvc.yaml`: parse, have the work done, put its results into place."""
