"""A result bundle: everything that lets others check a published figure, in one zip file.

    manifest.json     format, name, protocols, data, model, environment, and the SHA-256 and size of every other file
    signature.json    who vouches for the manifest (`bundle_signature`); absent in a bundle without a signature
    metrics.json      the figures, without the paths of the machine that made them
    predictions_*     what was predicted: stores (`.parquet`) and official submissions (`.json`)
    scene_statistics.npz   for intervals and comparisons

`verify` holds the hashes against the files and the signature against the manifest. That the figures follow from the
predictions only scoring them again can tell: `bevstack.evaluation.predictions.rescore`.
"""

import hashlib
import json
import platform
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any

import bevstack
from bevstack.evaluation.comparison.bundle_signature import SIGNATURE_FILE, Signature, check_signature, sign
from bevstack.evaluation.comparison.scene_statistics import STATISTICS_FILE
from bevstack.evaluation.run_results import METRICS_NAME, read_run

FORMAT = "bevstack-bundle-1"
MANIFEST_FILE = "manifest.json"
PACKAGES = ("torch", "numpy", "scipy", "nuscenes-devkit")
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Every entry has this date, so that the same results make the same bytes."""
_MAX_MANIFEST_BYTES = 8_000_000
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A bundle whose files are what its manifest says."""

    path: Path
    manifest: dict[str, Any]
    metrics: dict[str, Any]
    signature: Signature | None
    """None in a bundle that nobody signed: whole, but anyone could have made it."""


def pack(run: str | Path, out: str | Path, *, name: str | None = None, key: Path | None = None) -> Path:
    """Write the bundle of a results folder.

    Args:
        run: Results folder of `bevstack eval`, or a training run with one in `eval/`.
        out: The zip file.
        name: What the table calls it; by default the checkpoint's or file's own name.
        key: File with the private key to sign with; see `bundle_signature.make_key`.

    Raises:
        ValueError: the results lack predictions, or `out` exists.
    """
    results, out = read_run(str(run)), Path(out)
    if out.exists():
        raise ValueError(f"{out} exists: a published bundle is never replaced, give another name")
    metrics = _without_paths(results.metrics)
    predictions = _prediction_files(results.folder, results.metrics)
    if not predictions:
        raise ValueError(f"{results.folder} has no file of predictions to score again: run 'bevstack eval' once more")
    contents: dict[str, Path | bytes] = {METRICS_NAME: _json(metrics)}
    contents |= {file_name: file for file_name, file in predictions.items()}
    contents[STATISTICS_FILE] = results.folder / STATISTICS_FILE
    samples = "\n".join(results.statistics.facts.sample_tokens).encode()
    manifest = {
        "format": FORMAT,
        "name": name or _default_name(results.metrics),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "protocols": results.metrics["protocols"],
        "data": metrics["data"] | {"samples_sha256": hashlib.sha256(samples).hexdigest()},
        "model": {
            "name": _default_name(results.metrics),
            "sha256": results.metrics.get("checkpoint", {}).get("weights_sha256"),
        },
        "environment": environment(),
        "predictions": list(predictions),
        "files": {entry: _describe(content) for entry, content in contents.items()},
    }
    text = _json(manifest)
    contents = {MANIFEST_FILE: text, **contents}
    if key is not None:
        contents[SIGNATURE_FILE] = _json(sign(text, key))
    _write_zip(out, contents)
    return out


def verify(path: str | Path) -> Verified:
    """Check hashes and signature of a bundle.

    Raises:
        ValueError: a file was changed, is missing, or does not belong there; or the signature does not fit.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no bundle {path}; 'bevstack leaderboard pack RUN {path.name}' makes one")
    try:
        with zipfile.ZipFile(path) as bundle:
            text, manifest = _manifest(path, bundle)
            _check_files(path, bundle, manifest)
            signature = None
            if SIGNATURE_FILE in bundle.namelist():
                signature = check_signature(path, text, json.loads(_read(bundle, SIGNATURE_FILE)))
            metrics = json.loads(bundle.read(METRICS_NAME))
    except (zipfile.BadZipFile, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no result bundle or is cut short: {error}") from error
    if metrics["protocols"] != manifest["protocols"]:
        raise ValueError(f"{path}: manifest and {METRICS_NAME} name different protocols")
    return Verified(path=path, manifest=manifest, metrics=metrics, signature=signature)


def extract(bundle: Verified, names: list[str], folder: Path) -> dict[str, Path]:
    """Write files of a verified bundle to a folder; name -> place."""
    with zipfile.ZipFile(bundle.path) as file:
        return {name: Path(file.extract(name, folder)) for name in names}


def environment() -> dict[str, str]:
    """Versions of what computed the figures; nothing that names a machine."""
    versions = {"bevstack": bevstack.__version__, "python": platform.python_version(), "platform": sys.platform}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    return {**versions, "machine": platform.machine()}


def _prediction_files(folder: Path, metrics: Mapping[str, Any]) -> dict[str, Path]:
    """Name in the bundle -> file. A store holds every task; the official file stands in where there is none."""
    found = {}
    for row in metrics["results"]:
        names = (f"predictions_{row}.parquet", f"submission_{row}.json")
        for name in names:
            if (folder / name).is_file():
                found[name] = folder / name
                break
    source = metrics.get("predictions", {}).get("file") or metrics.get("checkpoint", {}).get("name", "")
    if not found and len(metrics["results"]) == 1 and Path(source).is_file():
        (row,) = metrics["results"]
        found[f"predictions_{row}{Path(source).suffix}"] = Path(source)
    return found


def _default_name(metrics: Mapping[str, Any]) -> str:
    return PurePosixPath(str(metrics.get("checkpoint", {}).get("name", "results"))).name


def _without_paths(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics without what belongs to the machine: the folder of the data, the folders of files."""
    data = {key: value for key, value in metrics["data"].items() if key != "root"}
    return {key: _leaf(value) for key, value in metrics.items()} | {"data": data}


def _leaf(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _leaf(each) for key, each in value.items()}
    if isinstance(value, str) and "/" in value and Path(value).is_absolute():
        return PurePosixPath(value).name
    return value


def _json(content: Any) -> bytes:
    return json.dumps(content, indent=2).encode()


def _describe(content: Path | bytes) -> dict[str, Any]:
    if isinstance(content, bytes):
        return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    with open(content, "rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": content.stat().st_size}


def _write_zip(out: Path, contents: Mapping[str, Path | bytes]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        fresh = Path(folder) / out.name
        with zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED) as bundle:
            for name, content in contents.items():
                entry = zipfile.ZipInfo(name, _EPOCH)
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                bundle.writestr(entry, content if isinstance(content, bytes) else content.read_bytes())
        fresh.rename(out)


def _manifest(path: Path, bundle: zipfile.ZipFile) -> tuple[bytes, dict[str, Any]]:
    text = _read(bundle, MANIFEST_FILE)
    manifest = json.loads(text)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{path} is no bundle of the format {FORMAT}")
    return text, manifest


def _read(bundle: zipfile.ZipFile, name: str) -> bytes:
    with bundle.open(name) as file:
        text = file.read(_MAX_MANIFEST_BYTES + 1)
    if len(text) > _MAX_MANIFEST_BYTES:
        raise ValueError(f"{name} is larger than {_MAX_MANIFEST_BYTES} bytes")
    return text


def _check_files(path: Path, bundle: zipfile.ZipFile, manifest: Mapping[str, Any]) -> None:
    names = bundle.namelist()
    promised = manifest["files"]
    if len(set(names)) < len(names):
        raise ValueError(f"{path} holds a file twice")
    for name in sorted(promised.keys() ^ (set(names) - {MANIFEST_FILE, SIGNATURE_FILE})):
        problem = "is missing" if name in promised else "is not in the manifest"
        raise ValueError(f"{path}: {name} {problem}; the bundle was changed after it was made")
    for name, expected in promised.items():
        if name != PurePosixPath(name).name or name in ("", "..", "."):
            raise ValueError(f"{path}: '{name}' is no plain file name")
        digest, size = hashlib.sha256(), 0
        with bundle.open(name) as file:
            while (block := file.read(_BLOCK)) and size <= expected["bytes"]:
                digest.update(block)
                size += len(block)
        if size != expected["bytes"] or digest.hexdigest() != expected["sha256"]:
            raise ValueError(f"{path}: {name} is not what the manifest says; it was changed after the bundle was made")
