"""Keystone under waitress, in one process, which first brings its own database and keys up to date.

Runs in the services' environment, with the variables HDH_CONFIG (keystone.conf), HDH_HOST, HDH_PORT, HDH_REGION,
HDH_URL, HDH_SECRETS (secrets.json) and HDH_PREPARED, the file to make when the database is complete.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
from pathlib import Path

import keystone.conf
import waitress
from keystone.cmd import bootstrap
from keystone.common import fernet_utils
from keystone.common.sql import upgrades
from keystone.credential.providers import fernet
from keystone.server.flask import core
from keystone.server.flask.request_processing.middleware.auth_context import AuthContextMiddleware


def main() -> None:
    """Prepare, then serve until ended."""
    sys.argv = ["keystone"]
    keep_tokens_apart()
    application = core.initialize_application(
        name="public",
        post_log_configured_function=prepare_apart,
        config_files=[os.environ["HDH_CONFIG"]],
    )
    host, port = os.environ["HDH_HOST"], int(os.environ["HDH_PORT"])
    # Engines and APIs keep dozens of connections open; past its limit (100 as it comes) waitress lets everybody wait.
    waitress.serve(
        application, host=host, port=port, threads=8, connection_limit=2000, asyncore_use_poll=True, ident=None
    )


def keep_tokens_apart() -> None:
    """Have each thread know the token of its own request only.

    Keystone 30 notes it on the middleware, which all threads share: a request was judged by the scope of another's
    token, and with one of a domain beside it refused (403), for no fault of its own.
    """
    here = threading.local()
    AuthContextMiddleware.token = property(
        lambda _: getattr(here, "token", None), lambda _, token: setattr(here, "token", token)
    )


def prepare_apart() -> None:
    """Run `prepare` in a forked child: backends can be loaded once per process, and bootstrapping loads them.

    A fork has everything imported already; keystone-manage would take seconds for that, four times.
    """
    child = multiprocessing.get_context("fork").Process(target=prepare)
    child.start()
    child.join()
    if child.exitcode:
        raise SystemExit(f"Keystone's database could not be prepared: the child ended with {child.exitcode}")


def prepare() -> None:
    """Make keys, tables and the admin, whose password never is in an argument. What is there is left alone."""
    conf = keystone.conf.CONF
    make_keys("fernet_tokens", conf.fernet_tokens.key_repository, conf.fernet_tokens.max_active_keys)
    make_keys("fernet_receipts", conf.fernet_receipts.key_repository, conf.fernet_receipts.max_active_keys)
    make_keys("credential", conf.credential.key_repository, fernet.MAX_ACTIVE_KEYS)
    upgrades.offline_sync_database_to_version()
    make_admin()
    Path(os.environ["HDH_PREPARED"]).touch()


def make_keys(group: str, directory: str, active: int) -> None:
    """Make the keys of one kind, readable by root only."""
    keys = fernet_utils.FernetUtils(directory, active, group)
    keys.create_key_directory()
    keys.initialize_key_repository()


def make_admin() -> None:
    """Make the admin user, its roles, and Keystone's place in the catalog."""
    secrets = json.loads(Path(os.environ["HDH_SECRETS"]).read_text(encoding="utf-8"))
    maker = bootstrap.Bootstrapper()
    maker.admin_username = maker.admin_role_name = maker.project_name = "admin"
    maker.admin_password = secrets["admin_password"]
    maker.service_name = "keystone"
    maker.region_id = os.environ["HDH_REGION"]
    maker.admin_url = maker.public_url = maker.internal_url = os.environ["HDH_URL"]
    maker.immutable_roles = True
    maker.bootstrap()


if __name__ == "__main__":
    main()
