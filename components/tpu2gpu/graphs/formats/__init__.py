"""Files that hold graphs, read and written without running them."""
