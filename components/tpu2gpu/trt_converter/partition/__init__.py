"""Partition of a model that the accelerator does not take whole.

convert_parts: the conversion, whole or in parts, in a process of its own.
conversion_in_parts: that of the parts, and the comparison of their chain.
unsupported_ops: which nodes the accelerator does not take, and why.
assignment, min_cut: which part each node is in.
build_parts, part: a model of each part.
costs: what the nodes cost.
partition_report: the report.
"""
