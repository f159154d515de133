"""Makes `celery -A workers flower` safe by default: with a login, read-only, and with a limited history on disk."""

import logging
import secrets
import sys
from collections.abc import Callable
from typing import Any

from click import get_current_context

from workers.errors import Fault, SettingsFault
from workers.process.logs import configure_logging
from workers.settings.environment import Settings, load_settings
from workers.settings.secret_files import create_private

USER = "pagetrail"
_OPTIONS = {
    "read_only": True,
    "max_tasks": 10_000,  # about 80 MB
    "max_workers": 500,
    "purge_offline_workers": 3600,
    "persistent": True,
    "state_save_interval": 60_000,
    "logging": "none",  # ours, below
    "tasks_columns": "uuid,args,state,result,name,runtime,received,worker",
}
"""Our defaults for Flower. FLOWER_<NAME>, a flowerconfig.py and options of the command override them."""

_STYLE = b"""<style>
.overflow-auto { max-width: none }
.tasks-table .task-uuid-full { display: none }
.tasks-table .task-uuid-short { display: inline }
</style></head>"""
"""Makes the list of tasks show a task's full description, which Flower cuts off, and a shorter id."""


def protect(app: object) -> None:
    """Make Flower's command start with our defaults if it is run for *app*."""
    command = sys.modules.get("flower.command")
    if command is not None:  # Celery loads its commands before the app
        command.flower.callback = _protected(command.flower.callback, app)


def password_of(settings: Settings) -> str:
    """Return the password of `USER`: the setting, or else the text of a file that is made (mode 0600) on first use."""
    if settings.flower_password is not None:
        return settings.flower_password.get_secret_value()
    path = settings.make_data_dir() / "flower.password"
    try:
        if not path.exists():
            create_private(path, secrets.token_urlsafe(12))
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise SettingsFault(
            f"The password file {path} can't be read: remove it, or set PAGETRAIL_FLOWER_PASSWORD."
        ) from None


def _protected(run: Callable[..., Any], app: object) -> Callable[..., Any]:
    def flower(tornado_argv: tuple[str, ...]) -> None:
        if get_current_context().obj.app is app:
            _protect(tornado_argv)
        run(tornado_argv=tornado_argv)

    return flower


def _protect(argv: tuple[str, ...]) -> None:
    try:
        settings = load_settings()
        _set_options(settings, argv)
    except Fault as fault:
        raise SystemExit(str(fault)) from None
    configure_logging(settings)
    logging.getLogger("flower").setLevel(settings.log_level)
    _guard_pages(settings)


def _set_options(settings: Settings, argv: tuple[str, ...]) -> None:
    # Imported only here and below: other processes don't need Flower.
    from flower.command import apply_env_options, apply_options
    from tornado.options import options

    database = str(settings.data_dir / "flower.state")
    for name, value in {**_OPTIONS, "db": database}.items():
        setattr(options, name, value)
    apply_env_options()
    apply_options(sys.argv[0], argv)
    if options.persistent and options.db == database:
        settings.make_data_dir()
    if not (options.basic_auth or options.auth):
        options.basic_auth = [f"{USER}:{password_of(settings)}"]


def _guard_pages(settings: Settings) -> None:
    """Ask for a login on the pages that Flower leaves open; show idle queues and long arguments, which it hides."""
    from flower.views import BaseHandler
    from flower.views.monitor import Healthcheck, Metrics
    from flower.views.tasks import TasksView
    from tornado.web import authenticated

    if not settings.flower_open_metrics:
        for page in (Healthcheck, Metrics):
            page.get = authenticated(page.get)

    def every_queue(page: BaseHandler) -> list[str]:
        return [queue.name for queue in page.capp.conf.task_queues]

    BaseHandler.get_active_queue_names = every_queue

    def styled(page: TasksView, template: str, **values: object) -> bytes:
        html: bytes = super(TasksView, page).render_string(template, **values)
        return html.replace(b"</head>", _STYLE, 1)

    TasksView.render_string = styled
