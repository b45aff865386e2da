"""Examples for models: read from files, or synthetic.

- feeds: `read_examples`, examples as feeds and labels
- forms: the forms in which examples lie in files
- reading: the options that say how examples become feeds
- rows: one example, as every form gives it
- input_rows: one row of an input, made of an example's features
- decoding: image files, serialized tensors and raw numbers as arrays
- python_examples: examples that a Python program hands over
- box_labels: the ground-truth boxes of examples
- synthetic: `make_examples`, random feeds
"""
