"""What a run, or a file, is at the moment: watch and info."""
