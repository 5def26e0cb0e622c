"""The seed Heat in one process: engine, API and CFN API, which talk to each other in memory.

Runs in the services' environment, with the variables HDH_CONFIG (heat.conf), HDH_HOST, HDH_API_PORT, HDH_CFN_PORT and
HDH_PREPARED, the file to make when the database is complete. Heat reads its configuration as a side effect of importing
its WSGI module, so the order of what follows matters.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from oslo_service import backend

backend.init_backend(backend.BackendType.THREADING)
sys.argv = ["heat", "--config-file", os.environ["HDH_CONFIG"]]

import waitress  # noqa: E402
from heat.common import config  # noqa: E402
from heat.db import migration  # noqa: E402
from heat.rpc import api as rpc_api  # noqa: E402
from heat.wsgi.api import application as api  # noqa: E402
from oslo_config import cfg  # noqa: E402


def main() -> None:
    """Bring the database up to date, start the engine, serve both APIs until ended."""
    migration.db_sync()
    Path(os.environ["HDH_PREPARED"]).touch()
    # Imported only now: it registers options that must follow the configuration.
    from heat.engine import service, template

    template._get_template_extension_manager()
    service.EngineService(cfg.CONF.host, rpc_api.ENGINE_TOPIC).start()
    cfn = config.load_paste_app("heat-api-cfn")
    threading.Thread(target=serve, args=(cfn, "HDH_CFN_PORT"), name="cfn", daemon=True).start()
    serve(api, "HDH_API_PORT")


def serve(application: object, port: str) -> None:
    """Serve `application` on the port that variable `port` names."""
    host = os.environ["HDH_HOST"]
    waitress.serve(
        application,
        host=host,
        port=int(os.environ[port]),
        threads=16,
        connection_limit=2000,
        asyncore_use_poll=True,
        ident=None,
    )


if __name__ == "__main__":
    main()
