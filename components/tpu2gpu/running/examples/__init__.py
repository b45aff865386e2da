"""Examples for models: read from files, or synthetic.

- feeds: `read_examples`, tf.Examples as feeds and labels
- records: TFRecord files of tf.Examples
- box_labels: the ground-truth boxes of examples
- synthetic: `make_examples`, random feeds
"""
