"""Scheduler of the background jobs (APScheduler) with leader election by a lease in the database.

The jobs are in memory under fixed ids, and each run is guarded by the lease: of several processes
only the one that holds it acts, and when it dies another takes over.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from experiments.registry.registered_versions import Registry
from service.connections.dispatcher import Dispatcher
from service.connections.inbox.idle_conversations import IdleConversations
from service.jobs.capacity_update import CapacityUpdate
from service.jobs.health_server import HealthServer
from service.jobs.installation_figures import InstallationFigures
from service.jobs.maintenance import Maintenance
from service.jobs.policy_moves import PolicyMoves
from service.jobs.registry_retention import RegistryRetention
from service.outcomes.annotator_review import AnnotatorMonitor
from service.outcomes.inferred_labels import InferredLabels
from service.privacy.retention import Retention
from service.runtime import logs
from service.runtime.first_secrets import mlflow_password
from service.runtime.job_metrics import JobMetrics
from service.runtime.settings import Settings
from service.store import access
from service.store.access import LEASE
from service.store.database.clock import database_time
from service.store.database.transactions import DatabaseError, SchemaMismatchError, Store
from service.versions.mlflow.artifact_check import ArtifactCheck
from service.versions.mlflow.publish_version import TRANSCRIPT, MlflowPublisher

EXPIRE_SECONDS = 5
AUDIT_SECONDS, SILENCE_SECONDS = 2, 60
CHALLENGE_SECONDS = 2
EVALUATION_CHECK_SECONDS = 5.0
"""Seconds between two checks whether an evaluation is due."""

CAPACITY_SECONDS, VERIFY_SECONDS = 30, 60
ANNOTATOR_SECONDS = 5
GRACE_SECONDS = 3600
FIGURES_SECONDS = 5
"""Seconds between two looks at what Prometheus is told of the installation."""

SILENT_LEASES = 4
"""A process that has not looked after its lease for so many of its lengths is not alive."""

_log = structlog.get_logger("baton.jobs")


class Leader:
    """Leader election: renews a lease; `is_active` tells whether this process holds it."""

    def __init__(self, store: Store, seconds: float) -> None:
        self._store = store
        self._seconds = seconds
        self._holder = f"{socket.gethostname()}:{os.getpid()}"
        self._until = 0.0
        self.beat_at = time.monotonic()
        """When the lease was last looked after, whatever came of it."""

    def renew(self) -> None:
        """Take or renew the lease; a database that is away is only logged."""
        started = self.beat_at = time.monotonic()
        try:
            with self._store.write() as connection:
                now = database_time(connection)
                is_held = access.take_lease(
                    connection, LEASE, self._holder, now, now + self._seconds
                )
        except DatabaseError as error:
            _log.warning("lease_not_renewed", why=str(error.orig))
            return
        if is_held and not self.is_active:
            _log.info("leading", holder=self._holder)
        self._until = started + self._seconds if is_held else 0.0

    @property
    def is_active(self) -> bool:
        return time.monotonic() < self._until

    def release(self) -> None:
        """Give up the lease at once, so that another process need not wait for its end."""
        self._until = 0.0
        with self._store.write() as connection:
            access.release_lease(connection, LEASE, self._holder)


def schedule(
    settings: Settings,
    leader: Leader,
    tasks: dict[str, tuple[Callable[[], None], float, str]],
    metrics: JobMetrics,
) -> BackgroundScheduler:
    """A scheduler of these tasks: by name the function, its interval in seconds, its thread."""
    scheduler = BackgroundScheduler(
        executors={
            name: ThreadPoolExecutor(1) for name in ("lease", "model", "outside", "figures")
        },
        job_defaults={
            "coalesce": True,
            "max_instances": 1,
            "misfire_grace_time": GRACE_SECONDS,
        },
        timezone="UTC",
    )

    def renew() -> None:
        leader.renew()
        metrics.set_leader(leader.is_active)

    passes = {name: _guarded(leader, name, task, metrics) for name, (task, _, _) in tasks.items()}
    times = {name: (seconds, thread) for name, (_, seconds, thread) in tasks.items()}
    passes["lease"], times["lease"] = renew, (settings.lease_seconds / 3, "lease")
    for name, job in passes.items():
        seconds, thread = times[name]
        scheduler.add_job(job, "interval", seconds=seconds, id=name, name=name, executor=thread)
    return scheduler


def _guarded(
    leader: Leader, name: str, task: Callable[[], None], metrics: JobMetrics
) -> Callable[[], None]:
    def run() -> None:
        if not leader.is_active:
            return
        try:
            with metrics.job_pass(name):
                task()
        except DatabaseError as error:
            metrics.count_pass(name, "put_off")
            _log.warning("task_put_off", task=name, why=str(error.orig))
        except Exception:
            metrics.count_pass(name, "broke")
            _log.exception("task_broke", task=name)

    return run


def run(settings: Settings) -> None:
    """Run the `jobs` process until SIGTERM or SIGINT."""
    logs.configure(settings.log_level, process="jobs")
    logging.getLogger("apscheduler.scheduler").setLevel(logging.ERROR)  # metrics tell what is late
    store, metrics = Store(settings.database_url), JobMetrics()
    store.on_error = metrics.count_database_error
    leader = Leader(store, settings.lease_seconds)
    leader.renew()
    metrics.set_leader(leader.is_active)
    scheduler = schedule(settings, leader, _tasks(settings, store, metrics), metrics)
    health = HealthServer(
        settings.host,
        settings.jobs_port,
        metrics,
        ready=lambda: _why_not_ready(store),
        is_leader=lambda: leader.is_active,
        silence=lambda: time.monotonic() - leader.beat_at,
        silent_seconds=SILENT_LEASES * settings.lease_seconds,
    )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    scheduler.start()
    dispatcher = threading.Thread(
        target=Dispatcher(store, settings).run, args=(stop, lambda: leader.is_active)
    )
    dispatcher.start()
    health.start()
    _log.info(
        "started",
        database=store.url.get_backend_name(),
        mlflow=settings.mlflow_url,
        health=f"http://{settings.host}:{health.port}",
    )
    stop.wait()
    health.stop()
    scheduler.shutdown(wait=True)
    dispatcher.join()
    leader.release()
    store.close()


def _why_not_ready(store: Store) -> Iterator[str]:
    try:
        store.check()
    except SchemaMismatchError as error:
        yield str(error)
    except DatabaseError as error:
        yield f"the database does not answer: {error.orig}"


def _tasks(
    settings: Settings, store: Store, metrics: JobMetrics
) -> dict[str, tuple[Callable[[], None], float, str]]:
    """The scheduled passes by name: function, interval in seconds, and thread."""
    upkeep = Maintenance(store, settings)
    registry = Registry(settings.mlflow_url, password=mlflow_password(settings))
    publishing = MlflowPublisher(store, registry, settings.address + TRANSCRIPT)
    surplus = RegistryRetention(store, registry, Retention(store, settings))
    figures = InstallationFigures(store, metrics)

    def publish() -> None:
        publishing.publish()
        metrics.set_mlflow(not publishing.is_away)

    return {
        "checkpoint": (upkeep.checkpoint, settings.checkpoint_seconds, "model"),
        "evaluate": (
            upkeep.evaluate,
            min(EVALUATION_CHECK_SECONDS, settings.evaluate_seconds),
            "model",
        ),
        "challenge": (upkeep.build_challengers, CHALLENGE_SECONDS, "model"),
        "upgrade": (upkeep.upgrade, settings.checkpoint_seconds, "model"),
        "mend": (upkeep.rebuild_corrected, settings.checkpoint_seconds, "model"),
        "expire": (upkeep.expire, EXPIRE_SECONDS, "lease"),
        "audit": (upkeep.draw_audits, AUDIT_SECONDS, "lease"),
        "capacity": (CapacityUpdate(store).update_prices, CAPACITY_SECONDS, "lease"),
        "moves": (PolicyMoves(store).move_all, CAPACITY_SECONDS, "lease"),
        "declined": (upkeep.learn_from_quiet_declines, SILENCE_SECONDS, "lease"),
        "raters": (AnnotatorMonitor(store).review_annotators, ANNOTATOR_SECONDS, "lease"),
        "silence": (upkeep.learn_from_silence, SILENCE_SECONDS, "lease"),
        "returns": (upkeep.detect_missed, AUDIT_SECONDS, "lease"),
        "inferred": (InferredLabels(store).learn, SILENCE_SECONDS, "lease"),
        "idle": (IdleConversations(store).close, SILENCE_SECONDS, "lease"),
        "publish": (publish, settings.publish_seconds, "outside"),
        "verify": (ArtifactCheck(store, registry).check, VERIFY_SECONDS, "outside"),
        "retain": (upkeep.remove_old_text, settings.checkpoint_seconds, "model"),
        "retire": (surplus.retire, settings.checkpoint_seconds, "outside"),
        "figures": (figures.collect, FIGURES_SECONDS, "figures"),
    }
