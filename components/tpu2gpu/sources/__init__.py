"""The sources that a step loads, so that no former result outlives a change of its code.

- digest: their digest
- names: the names in a source that may be modules
"""
