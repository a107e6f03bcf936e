"""The verbs of tightfit, wired to their parts; the command line and any other face call only this."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

from space.errors import OutageError, StateError
from space.inventory import Inventory
from space.plan import Plan
from space.results.document import FrontDocument
from space.results.explanation import Explanation
from storage.leases.lease import Silence, holder_name, is_gone
from storage.open_store import is_there, open_store
from storage.point_tasks import PointTask, TaskLease
from storage.records import Job, JobState, Lease
from storage.store import Store
from storage.tracking.contract import Tracker, check_mlflow
from storage.tracking.open_tracker import open_tracker
from tightfit.config import Settings, load_settings, login_name
from tightfit.jobs.new_job import create_job, create_once
from tightfit.links import checkpoints_of, keep_link
from tightfit.searched_model import check_plan, front_plans, lasting, searched_inventory
from tightfit.tasks.task_verbs import CLOSE_SECONDS, TaskVerbs
from tightfit.work import Server, executor_maker, requeued, start_process

if TYPE_CHECKING:
    from search.controller import Controller, Listener, MakeExecutor
    from space.spec import JobSpec
    from tightfit.estimate import DryRun
    from tightfit.gc import Freed


class Service(TaskVerbs):
    """Submit, run, look at, export, cancel and resume jobs of one home."""

    def __init__(self, settings: Settings | None = None, *, create: bool = True) -> None:
        """Open the store of the settings (default: the environment's); without `create` no home is made, nor a job."""
        self.settings = settings or load_settings()
        url = self.settings.database_url
        self.store: Store = open_store(url if create or is_there(url) else "memory:")

    def dry_run(self, spec: "JobSpec") -> "DryRun":
        """Return what a job would search and cost; reads no weights."""
        from search.request.acceptance import accept
        from tightfit.estimate import estimate

        prepared = accept(spec, self.settings.cache_folder)
        return estimate(spec, prepared, lasting(spec, prepared.folder))

    def submit(self, spec: "JobSpec", user: str | None = None, *, once: bool = False) -> Job:
        """Check a request and queue it for a user (default: who is at work here).

        `once` returns the job that the same request of the same user is already, if there is one.

        Raises:
            UsageError: the model, text or an option cannot be used.
            InfeasibleBudgetError: no plan has the asked size.

        """
        from search.request.acceptance import accept

        folder = accept(spec, self.settings.cache_folder, remember=True).folder
        return (create_once if once else create_job)(self.store, spec, folder, user or login_name())

    def run(
        self, job_id: str, listener: "Listener | None" = None, *, inline: bool = False, num_workers: int | None = None
    ) -> Job:
        """Run a queued job here until it ends; `inline` uses no Ray, `num_workers` others than the job asked for.

        `listener` hears its steps; None prints them on stderr.

        Raises:
            NotFoundError, JobTakenError: there is no such job, or it is not queued.
            TightfitError: the job failed; the reason is recorded with it.

        """
        self.store.glance(job_id)  # first: for a job that is not there nothing is made
        make_executor = executor_maker(inline=inline, num_workers=num_workers)
        return self._run(listener, job_id, lambda controller: controller.run(job_id), make_executor)

    def serve(
        self,
        listener: "Listener",
        *,
        until_idle: bool = False,
        num_workers: int | None = None,
        tell: Callable[[str], None] = lambda _: None,
        rest_seconds: float | None = None,
    ) -> int:
        """Run queued jobs and tasks and those whose controllers have gone; return how many jobs, once all is done.

        `listener` hears the steps of jobs, and `tell` those of tasks; after `rest_seconds` without any it returns too.
        """

        def run(lease: Lease) -> Job:
            make_executor = executor_maker(inline=False, num_workers=num_workers)
            return self._run(listener, lease.job_id, lambda controller: controller.run_held(lease), make_executor)

        def run_task(lease: TaskLease) -> PointTask:
            task = self.store.get_task(lease.task_id)
            tell(f"{task.task_id}  {task.kind} of {task.job_id}'s {task.point} to {task.out}")
            done = self._run_task(lease, lambda sentence: tell(f"{task.task_id}  {sentence}"))
            tell(f"{task.task_id}  {done.state}")
            return done

        silence = Silence(self.settings.lease_seconds)
        server = Server(self.store, run, silence, run_task=run_task, rest_seconds=rest_seconds)
        return server.serve(until_idle=until_idle)

    def _run(
        self,
        listener: "Listener | None",
        job_id: str,
        run: "Callable[[Controller], Job]",
        make_executor: "MakeExecutor",
    ) -> Job:
        from search.controller import Controller
        from tightfit.listen import LoggingListener, TerminalListener, TrackingListener

        tracker, settings = self._tracker(), self.settings
        settings.make_home()
        logged, end = LoggingListener(listener or TerminalListener(), settings.log_path(job_id)), ""
        try:
            heard = TrackingListener(logged, tracker)
            job = run(Controller(self.store, make_executor, settings.cache_folder, heard, settings.lease_seconds))
            self._publish(job, tracker)
            self._recover_as_asked(job, lambda text: logged.phase(job, text))
            end = f"The job is {job.state}."
        except (StateError, OutageError) as error:  # not this controller's job, or no longer
            end = str(error)
            raise
        except BaseException as error:
            end = str(error) or type(error).__name__
            self._publish_end(job_id, tracker)
            raise
        finally:
            logged.close(end)
            tracker.close(CLOSE_SECONDS)
            keep_link(self.store, job_id, tracker.link(job_id))
        return job

    def start_detached(self, job_id: str) -> int:
        """Run a queued job in a process of its own; return its id. Its log is in the home."""
        return start_process(self.settings, job_id)

    def plans(self, document: FrontDocument) -> dict[str, Plan]:
        """Return point -> plan of a front."""
        return front_plans(document, self.store.list_trials(document.job))

    def explain(self, job_id: str, point: str | None = None) -> Explanation:
        """Return why each module has its level at a point of a job's front (default: the recommended one).

        Raises:
            NotFoundError: no such point, or the job kept no model of its losses.
            InfeasibleBudgetError: no point is named and none fits the budget.

        """
        from tightfit.explaining import explain_point

        job, document, inventory, plans = self._searched(job_id)
        return explain_point(job, document, inventory, plans, point)

    def explanations(self, job_id: str) -> dict[str, Explanation]:
        """Return point -> explanation of a whole front; empty where the job kept no model of its losses."""
        from tightfit.explaining import explain_front

        return explain_front(*self._searched(job_id))

    def report(self, job_id: str) -> str:
        """Return a job's report: one self-contained HTML page."""
        from tightfit.job_page import job_report

        job, document, inventory, _ = self._searched(job_id)
        return job_report(self.settings, job, document, inventory, self.store.list_trials(job_id))

    def _searched(self, job_id: str) -> tuple[Job, FrontDocument, Inventory, dict[str, Plan]]:
        """Return a job, its front, the model that it searched, and point -> plan."""
        job, document = self.store.get_job(job_id), self.front(job_id)
        inventory, plans = searched_inventory(job), self.plans(document)
        for plan in plans.values():
            check_plan(job_id, plan, inventory)
        return job, document, inventory, plans

    def cancel(self, job_id: str) -> Job:
        """Ask a job to stop; its front so far is kept. Idempotent."""
        self.store.request_cancel(job_id)
        return self._rested(job_id, JobState.CANCELLED)

    def pause(self, job_id: str) -> Job:
        """Ask a job to stop until it is resumed; its front so far is kept. Idempotent."""
        self.store.request_pause(job_id)
        return self._rested(job_id, JobState.PAUSED)

    def _rested(self, job_id: str, state: JobState) -> Job:
        """Move a RUNNING job whose controller has gone, since nobody will read the request; return the job."""
        job = self.store.get_job(job_id)
        if job.state is JobState.RUNNING and is_gone(job.holder):
            lease = self.store.take_over(job, holder_name())
            if lease is not None:
                return self.store.holding(lease).set_job_state(job_id, state)
        return job

    def requeue(self, job_id: str) -> Job:
        """Queue a job again that rests or whose controller has gone; finished trials are not run again.

        One that is DONE stays so, unless its time was limited or an export of its front would miss a file. A RUNNING
        one is watched for the time of a lease where its controller is on another machine. If it goes on, its requests
        to stop are taken back, and it is returned as RUNNING.
        """
        from tightfit.gc import is_complete

        job = self.store.get_job(job_id)
        done = is_complete(self.store, job, self.settings.cache_folder)
        return job if done else requeued(self.store, job, self.settings.lease_seconds)

    def delete(self, job_id: str) -> None:
        """Delete a job that rests, its log, and its exports that lie in the home; what it measured stays known.

        Raises:
            StateError: it, or one of its exports, is not at rest.

        """
        folders = [Path(task.out) for task in self.tasks(job_id)]
        self.store.delete_job(job_id)
        self.settings.log_path(job_id).unlink(missing_ok=True)
        for folder in filter(self.settings.holds_export, folders):
            rmtree(folder, ignore_errors=True)

    def free_unneeded(self, *, dry_run: bool = False) -> "Freed":
        """Delete from the cache what no job needs; return how much."""
        from tightfit.gc import free_unneeded

        return free_unneeded(self.store, self.settings.cache_folder, dry_run=dry_run)

    def sync_mlflow(self, job_id: str, link_base: str | None = None) -> str:
        """Rebuild MLflow's picture of a job from the store; return the link of its Pareto view.

        `link_base` is the address of the server where the tracking URI is a database.

        Raises:
            StoreError: MLflow is not installed, cannot be reached or refuses.

        """
        from search.progress.front_progress import progress_of
        from storage.tracking.mlflow_runs import sync

        check_mlflow()
        job, trials = self.store.get_job(job_id), self.store.list_trials(job_id)
        has_ended = job.document is None and job.state.is_finished
        document, report = (None, "") if has_ended else (self.front(job_id), self.report(job_id))
        steps, option = progress_of(job, trials), self.settings.home_option
        done = checkpoints_of(job, self.tasks(job_id))
        link = sync(
            self.mlflow_uri, job, trials, document, report, steps,
            exports=done, link_base=link_base, home_option=option,
        )  # fmt: skip
        keep_link(self.store, job_id, link)
        return link

    def write_study(self, job_id: str, storage: str) -> int:
        """Write a job as a study into an Optuna storage (its URL); return of how many trials. Raises OutputError."""
        from search.study.written_study import write_study

        job = self.store.get_job(job_id)
        return write_study(job, self.store.list_trials(job_id), searched_inventory(job), storage)

    @property
    def mlflow_uri(self) -> str:
        """Return where fronts are recorded: MLFLOW_TRACKING_URI or the home's own database."""
        from storage.tracking.mlflow_server import tracking_database

        return self.settings.mlflow_uri or tracking_database(self.settings.home)

    def _tracker(self) -> Tracker:
        return open_tracker(self.mlflow_uri, home_option=self.settings.home_option)

    def _publish(self, job: Job, tracker: Tracker) -> None:
        trials = self.store.list_trials(job.job_id)
        if trials and job.state.is_finished:  # without trials MLflow never heard of it
            tracker.end(job)
        if job.document is not None:
            tracker.publish(job, trials, self.front(job.job_id), self.report(job.job_id))

    def _publish_end(self, job_id: str, tracker: Tracker) -> None:
        """Show how a job ended that failed or was interrupted; its own error is what people are told."""
        with suppress(Exception):
            job = self.store.get_job(job_id)
            if job.state.is_finished:
                self._publish(job, tracker)
