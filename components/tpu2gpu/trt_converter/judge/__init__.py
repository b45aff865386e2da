"""The judge of a converted model whose outputs differ: where the two part, and whether that is the conversion's fault.

- onnx_tensors: tensors inside an ONNX file, by name
- steps: the tensors of the source's graph that the ONNX file has too, compared
- parting: `Parting`, the first of them at which the two part
- verdict: `Verdicts`, what follows for the comparison
- chain: the same for a model in parts
"""
