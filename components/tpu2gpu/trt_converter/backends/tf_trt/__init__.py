"""TF-TRT as a back end, and its dry run without a GPU."""
