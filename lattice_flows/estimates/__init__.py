"""From ensemble files to the numbers of summary.json, and how far to trust them."""
