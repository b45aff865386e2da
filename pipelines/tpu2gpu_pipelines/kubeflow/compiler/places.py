"""Where what outlives a step can lie: each check tells what would be lost, or could not be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

SCHEMES = {
    "kubernetes": ("gs://", "s3://", "minio://", "oci://"),
    "vertex": ("gs://",),
    "local": ("/", "gs://", "s3://", "minio://", "oci://"),
}
_IMAGE = "oci://"
_INSTALLATIONS_OWN = "minio://"
_MOUNTED = "/gcs/"  # where Vertex mounts every bucket

Mounts = Mapping[str, Sequence[str]]


def misplaced_root(root: str, platform: str) -> list[str]:
    """Check that outputs can go there."""
    schemes = tuple(scheme for scheme in SCHEMES[platform] if scheme != _IMAGE)  # which nothing can be written to
    if not root or root.startswith(schemes):
        return []
    return [f"kubeflow.pipeline_root: {root}: on '{platform}' it must begin with {' or '.join(schemes)}"]


def unimportable(where: str, uri: str, platform: str) -> list[str]:
    """Check that the backend can import what lies there.

    Args:
        where: What says so, for the message.
        uri: The URI.
        platform: `kubernetes`, `vertex` or `local`.
    """
    if not uri or uri.startswith(SCHEMES[platform]):
        return []
    return [f"{where}: {uri}: on '{platform}' it must begin with {' or '.join(SCHEMES[platform])}"]


def unreadable(where: str, folder: str) -> list[str]:
    """Check that a folder which a step reads means something in a container."""
    if not folder or "://" in folder or folder.startswith("/"):
        return []
    return [f"{where}: {folder}: a container has no current folder; give a URI or an absolute path"]


def lost_promotion(folder: str, mounts: Mounts, platform: str) -> list[str]:
    """Check that a model that is promoted outlives its container, and that the next evaluation finds it.

    Args:
        folder: The promotion folder.
        mounts: For each step that reads or writes it where it sees a volume.
        platform: `kubernetes`, `vertex` or `local`.
    """
    if folder.startswith(_INSTALLATIONS_OWN):
        return [f"promotion_uri: {folder}: only Kubeflow's launcher knows this scheme; give s3:// with its endpoint"]
    if "://" in folder:
        return []
    if platform == "vertex":
        lost = not folder.startswith(_MOUNTED)
        return [f"promotion_uri: {folder}: on Vertex it must lie under {_MOUNTED}, or be a URI"] if lost else []
    if not folder.startswith("/"):
        return [f"promotion_uri: {folder}: must be a URI, or an absolute path of a folder that outlives the container"]
    return [f"promotion_uri: {line}" for line in _on_no_volume(folder, mounts, platform)]


def lost_checkpoints(root: str, mounts: Mounts, platform: str) -> list[str]:
    """Check that the checkpoints of a training outlive its container.

    Args:
        root: Their folder, or a URI; nothing is kept when empty.
        mounts: For the step that trains where it sees a volume.
        platform: `kubernetes`, `vertex` or `local`.
    """
    if not root or "://" in root:
        return []
    if platform == "vertex":
        lost = not root.startswith(_MOUNTED)
        hint = f"on Vertex it must lie under {_MOUNTED}, or be a gs:// URI"
        return [f"training.checkpoint_root: {root}: {hint}"] if lost else []
    if not root.startswith("/"):
        return [f"training.checkpoint_root: {root}: goes with its container; give an absolute path or a URI"]
    return [f"training.checkpoint_root: {line}" for line in _on_no_volume(root, mounts, platform)]


def _on_no_volume(folder: str, mounts: Mounts, platform: str) -> list[str]:
    if platform != "kubernetes":
        return []
    return [
        f"{folder}: {step} sees no volume there; add one to kubeflow.volumes"
        for step, paths in mounts.items()
        if not any(f"{folder}/".startswith(f"{path.rstrip('/')}/") for path in paths)
    ]
