"""Where summarize's apps run: threads of this process."""

from parsl.executors import ThreadPoolExecutor

from . import on_worker


class Here(ThreadPoolExecutor):
    """Parsl's ThreadPoolExecutor; an app that calls sys.exit fails, and nobody waits for it for ever."""

    def submit(self, func, resource_specification, *args, **kwargs):
        return super().submit(on_worker.guarded, resource_specification, func, args, kwargs)
