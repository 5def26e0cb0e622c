"""Configuration files of Keystone and of the seed Heat, as mappings written in oslo.config's format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.localcloud.cloud import LocalCloud
from pipeline.localcloud.credentials import Secrets
from pipeline.privatefile import write_private

__all__ = ["HEAT_USER", "STACK_DOMAIN", "STACK_DOMAIN_ADMIN", "heat", "keystone", "text", "write"]

HEAT_USER = "heat-seed"
STACK_DOMAIN = "heat-seed"
STACK_DOMAIN_ADMIN = "heat-seed-domain-admin"
PLUGINS = Path(__file__).parent / "heat_plugins"

Sections = Mapping[str, Mapping[str, object]]


def keystone(cloud: LocalCloud) -> Sections:
    """Return keystone.conf. Passwords are long and random, so hashing them slowly protects nothing."""
    keys = cloud.directory / "keystone"
    return {
        "DEFAULT": {"use_stderr": True, "default_log_levels": "amqp=WARN,stevedore=WARN"},
        "database": _database(cloud, "keystone"),
        "token": {"provider": "fernet", "expiration": 14400},
        "identity": {"password_hash_algorithm": "bcrypt", "password_hash_rounds": 4},
        "fernet_tokens": {"key_repository": keys / "fernet"},
        "fernet_receipts": {"key_repository": keys / "receipts"},
        "credential": {"key_repository": keys / "credential"},
        "cache": {"enabled": True, "backend": "dogpile.cache.memory"},
        "oslo_policy": {"policy_file": keys / "policy.yaml"},
    }


def heat(cloud: LocalCloud, venv: Path, secrets: Secrets) -> Sections:
    """Return the seed's heat.conf: engine, API and CFN API share it, being one process."""
    user = {
        "auth_type": "password", "auth_url": cloud.keystone_url, "username": HEAT_USER,
        "password": secrets.heat_password, "user_domain_name": "Default",
    }  # fmt: skip
    service = {**user, "project_name": "service", "project_domain_name": "Default"}
    # Heat appends /v3/ec2tokens itself.
    keystone_root = cloud.keystone_url.removesuffix("/v3")
    return {
        "DEFAULT": {
            "use_stderr": True,
            "transport_url": "fake://",
            "host": cloud.name,
            "plugin_dirs": PLUGINS,
            "region_name_for_services": cloud.region,
            "auth_encryption_key": secrets.encryption_key,
            "deferred_auth_method": "trusts",
            "heat_metadata_server_url": cloud.cfn_url.removesuffix("/v1"),
            "heat_waitcondition_server_url": f"{cloud.cfn_url}/waitcondition",
            "stack_user_domain_name": STACK_DOMAIN,
            "stack_domain_admin": STACK_DOMAIN_ADMIN,
            "stack_domain_admin_password": secrets.stack_domain_password,
            "num_engine_workers": 1,
            "environment_dir": venv / "etc/heat/environment.d",
            "template_dir": venv / "etc/heat/templates",
            "rpc_response_timeout": 120,
            "max_resources_per_stack": -1,
        },
        "local_cloud": {
            "machines_url": cloud.machines_url,
            "secrets_file": cloud.directory / "secrets.json",
        },
        "paste_deploy": {"api_paste_config": venv / "etc/heat/api-paste.ini"},
        "database": _database(cloud, "seed"),
        "clients": {"endpoint_type": "publicURL"},
        "clients_keystone": {"auth_uri": keystone_root},
        "keystone_authtoken": {**service, "www_authenticate_uri": cloud.keystone_url},
        "trustee": user,
        "ec2authtoken": {**service, "endpoint_override": keystone_root},
    }


def text(sections: Sections) -> str:
    """Return `sections` as an oslo.config file; a "$" is doubled, because oslo.config would substitute it."""
    lines = []
    for name, options in sections.items():
        lines += [f"[{name}]", *(f"{key} = {_value(value)}" for key, value in options.items()), ""]
    return "\n".join(lines)


def write(path: Path, sections: Sections) -> Path:
    """Write `sections` to `path`, readable by root only, and return it."""
    write_private(path, text(sections))
    return path


def _value(value: object) -> str:
    return str(value).replace("$", "$$")


def _database(cloud: LocalCloud, schema: str) -> Mapping[str, object]:
    return {"connection": cloud.database_url(schema), "max_pool_size": 20, "max_overflow": 40}
