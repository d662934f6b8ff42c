"""From the row queues to the outputs: what the machine tells the value side, and what it learns of it.

Every cycle of row queues, token importance, both top-k engines, V lists, prob x V, output stage and write-back is taken
in compiled code (`models.transaction.value_loop`), beside those of the fetch side. Here rows go in as soon as it is
known when their probabilities come, jobs as soon as they are given, and cycles come out when others wait for them.
"""

from models.config import AcceleratorConfig
from models.transaction.channel import In, Out
from models.transaction.fetching import FetchSide
from models.transaction.issue import RowIssue
from models.transaction.kernel import Module, Simulation, Steps
from models.transaction.layer_plan import LayerPlan
from models.transaction.loader import Jobs
from models.transaction.row_beats import Row
from models.transaction.times import Following, follow
from models.transaction.value_layer import value_layer
from models.transaction.value_state import DONE, FINAL, JOB, RETIRED


class ValuePath(Module):
    """The modules behind the row queues."""

    def __init__(
        self, simulation: Simulation, machine: AcceleratorConfig, jobs: Jobs, issue: RowIssue, fetch: FetchSide
    ) -> None:
        super().__init__(simulation, "value path")
        self.machine, self.jobs, self.issue, self.fetch = machine, jobs, issue, fetch
        self.layers: In[tuple[LayerPlan, int]] = In(self, "layers")
        self.final: Out[int] = Out(self, "importance final")
        self.done: Out[int] = Out(self, "done")
        self.start(self._main())

    @property
    def row_cycles(self) -> list[int]:
        """Cycles in which the last beats of the layer's rows left the row queues."""
        found: list[int] = self.fetch.run.layer["shown"].tolist()
        return found

    @property
    def output_cycles(self) -> list[int]:
        """Cycles in which the outputs of the layer's rows went to the write-back."""
        found: list[int] = self.fetch.run.layer["outputs"].tolist()
        return found

    def begin(self, plan: LayerPlan, importance_from: int) -> None:
        """A layer begins; token importance takes probabilities from a cycle on."""
        self.fetch.run.begin(value_layer(plan, self.machine), plan.place["output_address"], importance_from)

    def _main(self) -> Steps:
        while True:
            plan, _ = yield self.layers.fifo.get(rest=True)
            run = self.fetch.run
            follow(self._give_jobs(plan))
            events, seen, told = 0, 0, 0
            while not (seen & DONE and seen & FINAL):
                events = yield self.fetch.values_event.wait()
                seen |= events
                if events & JOB:
                    given = int(run.values["job_next"])
                    self.jobs.taken["value"].extend(run.layer["taken"][told:given].tolist())
                    told = given
                if events & RETIRED:
                    self.issue.tell_retired()
                if events & FINAL:
                    yield self.final.put(int(run.values["final"]))
                if events & DONE:
                    yield self.done.put(int(run.values["ended"]))

    def _give_jobs(self, plan: LayerPlan) -> Following:
        run = self.fetch.run
        for j in range(len(plan.jobs)):
            given = yield from self.jobs.given["value"].known(j)
            run.layer["given"][j] = given
            run.values["jobs_given"] = j + 1
            self.fetch.tell_values()

    def take_row(self, row: Row) -> None:
        """The next row of the layer: when its probabilities come is known."""
        run = self.fetch.run
        index = int(run.values["known"])
        run.layer["begins"][index] = row.begins
        run.values["known"] = index + 1
        self.fetch.tell_values()
