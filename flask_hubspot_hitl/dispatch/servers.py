"""Find out which processes serve, by what a command, a reloader or a server tells before the first request.

``DISPATCHER = thread`` dispatches where requests are served. A guess that is wrong costs a wait: the first request
starts the dispatcher in any case.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import threading
from collections.abc import Callable, Collection
from typing import Any

import click
from flask.cli import AppGroup, run_command
from flask.helpers import get_debug_flag
from werkzeug.serving import is_running_from_reloader

from ..process import gives_threads_time, uwsgi
from .dispatcher import Dispatcher
from .stacks import stack_of

logger = logging.getLogger(__name__)


def prepare(dispatcher: Dispatcher, serving_commands: Collection[str]) -> None:
    """Have a dispatcher in ``thread`` mode started as soon as it is certain that this process, or its children, serve.

    :param serving_commands: names of the host's commands of ``flask`` that serve.
    """
    if not gives_threads_time():
        dispatcher.mode = "external"
        logger.error(
            "uWSGI runs without threads, so nothing is dispatched here; webhooks and messages are stored. Start uWSGI "
            "with 'enable-threads = true', or set HUBSPOT_HITL_DISPATCHER=external and run 'flask hubspot-hitl worker'"
        )
        return
    may_start = may_serve(serving_commands)
    if may_start is None:
        return
    server: Any = uwsgi()
    if server is not None and server.worker_id() == 0:

        def begin() -> None:
            if server.worker_id():  # mules and spoolers have none
                dispatcher.start_soon(may_start)

        after_uwsgi_forks(begin)
    else:
        dispatcher.start_soon(may_start)


def may_serve(serving_commands: Collection[str]) -> Callable[[], bool] | None:
    """Tell whether this process serves.

    Under Flask's commands only ``flask run`` and ``serving_commands`` do, and the parent of a reloader does not. Any
    other command is a server's own, such as ``uvicorn``'s and ``granian``'s.

    :param serving_commands: names of the host's commands of ``flask`` that serve.
    :returns: what to ask a moment later, when it is certain; None when this process does not serve.
    """
    context = click.get_current_context(silent=True)
    root = None if context is None else context.find_root()
    if context is None or root is None or not isinstance(root.command, AppGroup):
        return lambda: not _is_reloaders_parent()
    while context is not None and context.command is not run_command:
        context = context.parent
    if context is None:
        # Flask loads the app to find the command, so its name is known only later.
        return (lambda: root.invoked_subcommand in serving_commands) if serving_commands else None
    reload = context.params.get("reload")
    reload = get_debug_flag() if reload is None else reload
    return None if reload and not is_running_from_reloader() else lambda: True


def _is_reloaders_parent() -> bool:
    """Return True in the process that only waits for ``app.run(debug=True)``'s reloader."""
    if is_running_from_reloader():
        return False
    return f"{os.sep}werkzeug{os.sep}_reloader.py" in stack_of(threading.main_thread().ident)


def after_uwsgi_forks(call: Callable[[], object]) -> None:
    """Have something called in each process that uWSGI makes of this one.

    :param call: called after everything else that is called there.
    """
    server: Any = uwsgi()
    hooks = [getattr(server, "post_fork_hook", None)]
    # Imported after us it would put its own hook in the place of ours, and of a spooler that the host has set.
    spooler = getattr(server, "spooler", None)
    with contextlib.suppress(Exception):  # it is missing, or there is no master process, which it wants
        importlib.import_module("uwsgidecorators")
    if spooler is not None:
        server.spooler = spooler
    hooks.append(getattr(server, "post_fork_hook", None))

    def hook() -> None:
        for one in dict.fromkeys(hooks):
            if one is not None:
                one()
        call()

    server.post_fork_hook = hook
