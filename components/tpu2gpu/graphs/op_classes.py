"""What ops do besides computing; every op that nobody has reviewed counts as unknown."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any, Literal

OpClass = Literal["pure", "reads files", "writes files", "network", "python", "custom", "engine", "unknown"]

PATH_INPUTS = {
    "CSVDataset": 0,
    "CSVDatasetV2": 0,
    "CacheDataset": 1,
    "CacheDatasetV2": 1,
    "FixedLengthRecordDataset": 0,
    "FixedLengthRecordDatasetV2": 0,
    "InitializeTableFromTextFile": 1,
    "InitializeTableFromTextFileV2": 1,
    "LoadAndRemapMatrix": 0,
    "LoadDataset": 0,
    "MatchingFiles": 0,
    "ReadFile": 0,
    "Restore": 0,
    "RestoreSlice": 0,
    "RestoreV2": 0,
    "TFRecordDataset": 0,
    "TFRecordDatasetV2": 0,
    "TextLineDataset": 0,
}
"""Of ops that read or write a file: which input tells its path."""

_READERS = """DTensorRestoreV2 ExperimentalCSVDataset ExperimentalLMDBDataset ExperimentalMatchingFilesDataset
    ExperimentalSqlDataset FixedLengthRecordReader FixedLengthRecordReaderV2 FixedUnigramCandidateSampler
    GenerateVocabRemapping ImmutableConst LMDBDataset LMDBReader ListSnapshotChunksDataset MatchingFilesDataset
    RecordInput Skipgram SnapshotChunkDataset SnapshotDatasetReader SnapshotNestedDatasetReader SqlDataset
    TFRecordReader TFRecordReaderV2 TextLineReader TextLineReaderV2 WholeFileReader WholeFileReaderV2"""
_WRITERS = """CacheDataset CacheDatasetV2 CalibrationStatisticsSaver CloseSummaryWriter CreateSummaryDbWriter
    CreateSummaryFileWriter DatasetToTFRecord DistributedSave DumpTensor ExperimentalDatasetToTFRecord
    FileSystemSetConfiguration FlushSummaryWriter ImportEvent MergeV2Checkpoints PrintV2 Save SaveDataset
    SaveDatasetV2 SaveSlices SaveV2 SerializeTRTResource SnapshotDataset SnapshotDatasetV2
    StatsAggregatorSetSummaryWriter SummaryWriter WriteFile WriteAudioSummary WriteGraphSummary
    WriteHistogramSummary WriteImageSummary WriteRawProtoSummary WriteScalarSummary WriteSummary"""
_NETWORK = re.compile(
    r"Rpc.*|DeleteRpcFutureResource|DataServiceDataset.*|RegisterDataset.*|Collective(?!Permute).*|Remote.*"
    r"|Debug(Gradient|Identity|NanCount|NumericSummary).*|_?Nccl.*|_?(Host)?(Send|Recv)|DTensor(All|Reduce).*"
    r"|CopyToMesh.*|WorkerHeartbeat|_?XlaHostCompute.*|_?Xla(Send|Recv)(To|From)Host.*"
)
_CLASSES: dict[str, OpClass] = {
    **dict.fromkeys([*PATH_INPUTS, *_READERS.split()], "reads files"),
    **dict.fromkeys(_WRITERS.split(), "writes files"),
    **dict.fromkeys(["EagerPyFunc", "PyFunc", "PyFuncStateless"], "python"),
    **dict.fromkeys(["XlaCustomCall", "XlaCustomCallV2", "TfLiteSubgraphExecute"], "custom"),
    **dict.fromkeys(["DatasetFromGraph", "DeserializeIterator"], "custom"),  # a text that they take may be a graph
    "InitializeTRTResource": "engine",
}
# Attributes without which an op of a class only computes.
_HARMLESS_WITHOUT = {"FixedUnigramCandidateSampler": "vocab_file", "DebugIdentity": "debug_urls"}
_DESCRIBED = ("DecodeProtoV2", "EncodeProto")


def class_of(op: str) -> OpClass:
    """Return what an op does, by its name."""
    if op in _pure_ops():
        return "pure"
    if op in _CLASSES:
        return _CLASSES[op]
    if _NETWORK.fullmatch(op):
        return "network"
    return "custom" if ">" in op else "unknown"  # `Domain>Op` is how libraries name theirs


def class_of_node(node: Any) -> OpClass:
    """Return what a node does: some ops do more than compute only with certain attributes."""
    op = node.op
    if op == "PrintV2":
        return "writes files" if node.attr["output_stream"].s.startswith(b"file:") else "pure"
    if op == "TRTEngineOp" and node.attr["serialized_segment"].s:
        return "engine"
    if op == "XlaCallModule" and b"_callback" in node.attr["module"].s:
        return "custom"  # Python by its address; assertions on shapes are calls of native code too, and harmless
    if op in _DESCRIBED and not _is_described_inside(node.attr["descriptor_source"].s):
        return "reads files"
    attribute = _HARMLESS_WITHOUT.get(op)
    if attribute and not (node.attr[attribute].s or node.attr[attribute].list.s):
        return "pure"
    return class_of(op)


def _is_described_inside(source: bytes) -> bool:
    """Tell whether a protocol's description is linked in or written out, not in a file."""
    return source in (b"", b"local://") or source.startswith(b"bytes://")


@functools.cache
def _pure_ops() -> frozenset[str]:
    """Read the names of the ops that compute, or keep something in memory, and do nothing else."""
    return frozenset((Path(__file__).parent / "pure_ops.txt").read_text(encoding="ascii").split())
