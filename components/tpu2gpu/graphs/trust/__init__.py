"""What a model would do besides computing: a SavedModel is a program, and nothing foreign runs unasked.

- file_paths: where the path of a file comes from that a node reads
- review: the nodes of a model that do more than compute
- policy, trust_option: which of them a user trusts; everything else is refused
"""
