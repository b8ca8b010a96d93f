"""What a person sees of long work, and numbers and names as text."""
