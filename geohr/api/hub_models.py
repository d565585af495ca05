"""Models from the registry and models given to others: pull, push, and what describes them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from geohr._runtime.files import cache_folder
from geohr.api.import_model import ImportResult, import_model
from geohr.api.import_options import ImportOptions
from geohr.errors import UsageError
from geohr.models.card import Card
from geohr.models.hub import HubAddress, push
from geohr.models.metadata import mlm_item
from geohr.models.model import Model, resolve_model
from geohr.models.networks import HRNETS, SMP_DECODERS
from geohr.models.registry import PINS, find_remote

TEMPLATE = """---
license: {tag}
library_name: geohr
pipeline_tag: image-segmentation
tags:
- segmentation-models-pytorch
- remote-sensing
- geospatial
---
# {name}

{notes}

```text
pip install 'geohr'
geohr models import hf://{repo} --out {file}
geohr segment scene.tif --model {file} --out objects.gpkg
```

{card}

Licence: {licence}

{sources}
"""
LICENCES = {
    "apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "etalab-2.0",
    "odbl", "pddl",
}  # fmt: skip
"""Licences that the hub has a tag for."""


def pull_model(name: str, out: Path, *, overwrite: bool = False) -> ImportResult:
    """Fetch a model of the registry and make a geohr model file of it.

    Args:
        name: As `geohr models list --remote` shows it.
        out: The model file, `*.safetensors`.
        overwrite: Replace a file that exists.

    Raises:
        UsageError: When there is no such name, or `out` exists.
        InputError: When the hub cannot be reached, or its file is not what it was.
        OutputError: When `out` cannot be written.
    """
    row = find_remote(name)
    path = row.fetch(cache_folder() / PINS)
    options = ImportOptions(
        architecture=row.architecture,
        encoder=row.encoder,
        classes=row.classes,
        bands=row.bands,
        range=row.range,
        mean=row.mean,
        std=row.std,
        gsd=row.gsd,
        tile=row.tile,
        licence=row.licence,
        attribution=row.attribution,
    )
    return import_model(path, out, options=options, name=name, notes=row.note, overwrite=overwrite)


def push_model(model: str | Path | Model, target: str) -> str:
    """Give a model to others on the hub: weights, card, and a configuration that SMP opens.

    Args:
        model: A bundled name, a file or a model.
        target: `hf://owner/name`.

    Returns:
        Where to look at it.

    Raises:
        UsageError: For a target that is none, or a network that SMP could not open.
        OutputError: When the hub refuses it or cannot be reached.
    """
    model, address = resolve_model(model), HubAddress.parse(target)
    card = model.card
    if card.architecture not in {*HRNETS, *SMP_DECODERS}:
        raise UsageError(
            f"model {card.name!r} is a network of format {card.architecture}; push its own file"
        )
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        model.save(folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(smp_config(card), indent=2) + "\n", "utf-8")
        (folder / "README.md").write_text(readme(card, address.repo), "utf-8")
        item = mlm_item(model, href="./model.safetensors")
        (folder / "mlm.json").write_text(json.dumps(item, indent=2) + "\n", "utf-8")
        return push(folder, address)


def smp_config(card: Card) -> dict[str, Any]:
    """The `config.json` by which `smp.from_pretrained` builds the network."""
    import segmentation_models_pytorch as smp

    config: dict[str, Any] = {
        "_model_class": smp.MODEL_ARCHITECTURES_MAPPING[card.architecture].__name__,
        "encoder_name": card.encoder,
        "encoder_weights": None,
        "in_channels": len(card.bands),
        "classes": card.channels,
        **card.arguments,
    }
    if card.architecture in HRNETS:
        config |= {
            "fusion": card.fusion,
            "align_corners": card.align_corners,
            "stem_stride": card.stem_stride,
        }
    return config


def readme(card: Card, repo: str) -> str:
    """The README of a repository, with the metadata that the hub reads at its top."""
    tag = card.licence.lower().replace(" ", "-")
    entries = "\n".join(f"- {line}" for line in card.describe().splitlines())
    sources = "\n".join(
        f"- {each.name}; {each.licence}; {each.attribution}" for each in card.sources
    )
    return TEMPLATE.format(
        tag=tag if tag in LICENCES else "other",
        name=card.name,
        notes=card.notes,
        repo=repo,
        file=f"{repo.partition('/')[2]}.safetensors",
        card=entries,
        licence=card.licence or "not stated",
        sources=sources,
    )
