"""Made-up inputs that could find something, derived from the graph that they will probe.

- domain: `Domain`, the values that an input is made for, and `RecordForm`, the same of serialized tf.Examples
- find_domains: `find_domains`, the domains of a signature's inputs, from what its graph does with them
- texts: made-up strings: words of a vocabulary, digits, image files, serialized tf.Examples
- drawing: arrays of one kind: typical, signed, edges, wide, structured
- probes: `make_probes`, batches of them
- coverage: what no probe reached
"""
