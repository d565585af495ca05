"""Where object stores are and who asks, from the environment, for obstore and for GDAL.

Both know the variables of the stores' own tools, but not the same ones: what one understands is
told to the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

Environment = Mapping[str, str]

CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"
EMULATOR = "STORAGE_EMULATOR_HOST"
"""Names an emulator of Google's store, which asks for no credentials, as for Google's own tools."""
YES = ("YES", "TRUE", "ON", "1")


def store_options(kind: str, environment: Environment) -> dict[str, Any]:
    """Options of obstore's that its own look at the environment does not find.

    Args:
        kind: `s3`, `gs` or `az`.
        environment: Variables by name.
    """
    config = {"s3": _s3, "gs": _gs, "az": _az}[kind](environment)
    if config.pop("plain", False):
        config["client_options"] = {"allow_http": True}
    return config


def gdal_options(environment: Environment) -> dict[str, str]:
    """Options of GDAL's that its own look at the environment does not find."""
    chosen: dict[str, str] = {}
    if "AWS_ENDPOINT_URL" in environment and "AWS_S3_ENDPOINT" not in environment:
        server = urlsplit(environment["AWS_ENDPOINT_URL"])
        chosen |= {
            "AWS_S3_ENDPOINT": server.netloc,
            "AWS_HTTPS": "YES" if server.scheme == "https" else "NO",
            "AWS_VIRTUAL_HOSTING": "FALSE",
        }
    if EMULATOR in environment and "CPL_GS_ENDPOINT" not in environment:
        chosen |= {"CPL_GS_ENDPOINT": f"{_emulator(environment)}/", "GS_NO_SIGN_REQUEST": "YES"}
    if CONNECTION not in environment:
        for theirs, ours in (
            ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME"),
            ("AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT_KEY"),
        ):
            if ours in environment and theirs not in environment:
                chosen[theirs] = environment[ours]
    return chosen


def _s3(environment: Environment) -> dict[str, Any]:
    config: dict[str, Any] = {}
    endpoint = s3_endpoint(environment)
    if endpoint is not None:
        config = {"endpoint": endpoint, "plain": endpoint.startswith("http://")}
    if _is_set(environment, "AWS_NO_SIGN_REQUEST"):
        config["skip_signature"] = True
    return config


def s3_endpoint(environment: Environment) -> str | None:
    """The address of another S3 server than Amazon's, under Amazon's name for it or GDAL's."""
    if "AWS_ENDPOINT_URL" in environment:
        return environment["AWS_ENDPOINT_URL"]
    if "AWS_S3_ENDPOINT" not in environment:
        return None
    plain = environment.get("AWS_HTTPS", "YES").upper() in ("NO", "FALSE", "OFF", "0")
    return f"{'http' if plain else 'https'}://{environment['AWS_S3_ENDPOINT']}"


def _gs(environment: Environment) -> dict[str, Any]:
    if EMULATOR in environment:
        address = _emulator(environment)
        # To leave out signatures would do for reading alone.
        nobody = {"gcs_base_url": address, "disable_oauth": True}
        nobody |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
        return {
            "service_account_key": json.dumps(nobody),
            "plain": address.startswith("http://"),
        }
    config: dict[str, Any] = {}
    if "CPL_GS_ENDPOINT" in environment:
        config["base_url"] = environment["CPL_GS_ENDPOINT"].rstrip("/")
        config["plain"] = config["base_url"].startswith("http://")
    if _is_set(environment, "GS_NO_SIGN_REQUEST"):
        config["skip_signature"] = True
    return config


def _emulator(environment: Environment) -> str:
    """The emulator's address, which is given with or without http://."""
    host = environment[EMULATOR].rstrip("/")
    return host if "://" in host else f"http://{host}"


def _az(environment: Environment) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if CONNECTION in environment:
        parts = [each.partition("=") for each in environment[CONNECTION].split(";")]
        given = {name.strip(): value for name, _, value in parts}
        if given.get("UseDevelopmentStorage", "").lower() == "true":
            return {"use_emulator": True, "plain": True}
        for name, theirs in (
            ("account_name", "AccountName"),
            ("account_key", "AccountKey"),
            ("sas_key", "SharedAccessSignature"),
            ("endpoint", "BlobEndpoint"),
        ):
            if theirs in given:
                config[name] = given[theirs].rstrip("/") if name == "endpoint" else given[theirs]
    else:
        for name, theirs in (
            ("account_name", "AZURE_STORAGE_ACCOUNT"),
            ("account_key", "AZURE_STORAGE_ACCESS_KEY"),
            ("sas_key", "AZURE_STORAGE_SAS_TOKEN"),
        ):
            if theirs in environment:
                config[name] = environment[theirs]
    config["plain"] = config.get("endpoint", "").startswith("http://")
    if _is_set(environment, "AZURE_NO_SIGN_REQUEST"):
        config["skip_signature"] = True
    return config


def _is_set(environment: Environment, name: str) -> bool:
    return environment.get(name, "").upper() in YES
