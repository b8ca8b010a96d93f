"""Terminal output: the progress of long work, stopping on a signal, and numbers and names as text."""
