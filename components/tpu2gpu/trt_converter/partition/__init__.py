"""Partition of a model that the accelerator does not take whole.

convert_parts: the conversion of all parts, in a process of its own.
unsupported_ops: which nodes the accelerator does not take, and why.
assignment, min_cut: which part each node is in.
splitting, part: a model of each part.
costs: what the nodes cost.
split_report: the report.
"""
