"""The present state of a run or a file: the commands watch, info and verify."""
