"""Cycles that signals take through the hand-written control of `hls`, counted in its netlists, not known by heart.

A dataflow part has a schedule, which says its latency (`models.transaction.machine_timing`). Control is registers by
hand: how many of them a signal passes between two events of the model is counted, from wire to wire, on the netlists of
the machine that is modelled (`hls.register_paths`). So a register that is put into a module of `hls` is a cycle of the
model too. What is `+ 1` in the model is the cycle after.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from hls.datapaths.catalog import BLOCKS
from hls.register_paths import RegisterPaths
from models.config import AcceleratorConfig


@dataclass(frozen=True)
class ControlTiming:
    """Between two layers: `hls.datapaths.controller`, `control_read`, `selection`.

    Attributes:
        first_read: from the start until a burst of the descriptor is sent for.
        answered: from an answer to a control read until its burst is given.
        given: until those who take it see it.
        lists_asked: from the last burst of a descriptor, given, until a burst of the first list is sent for.
        send_gap: between the requests of control reads, besides a cycle for each burst.
        give_gap: the same where their bursts are given.
        launched: from the check of the last row of the lists until the layer starts.
        clear_offered: from then until the first row of the sweep that clears is offered to the token importance.
        survivors_held: from the last row of their mask, as it is made, until the mask is known to be there.
        protected_held: the same of the protected ids.
        begun: from the start of a layer to `selection_start`, at least.
        held_told: from masks that are there to `selection_start`.
        importance_told: from the last probability in token importance to `selection_start`.
        sweep_begun: from `selection_start` until the sweep.
        walk_begun: until the survivors are walked over.
        heads_asked: until heads may be asked for.
        outputs_told: from the last outputs until heads may be asked for.
        heads_read: from there until S_h are read.
        items_given: from a row of scores to a row of items at engine A.
        answered_behind: from the last thing selected or written to the answer.
        done_told: from the last acknowledgement of a write until the layer is known to be done.
    """

    first_read: int
    answered: int
    given: int
    lists_asked: int
    send_gap: int
    give_gap: int
    launched: int
    clear_offered: int
    survivors_held: int
    protected_held: int
    begun: int
    held_told: int
    importance_told: int
    sweep_begun: int
    walk_begun: int
    heads_asked: int
    outputs_told: int
    heads_read: int
    items_given: int
    answered_behind: int
    done_told: int

    @classmethod
    def of(cls, machine: AcceleratorConfig) -> "ControlTiming":
        """Counted once for `machine`."""
        return _control(machine)


@dataclass(frozen=True)
class RowTiming:
    """Jobs and rows: `hls.datapaths.head_walk`, `operand_loader`, `row_issue`, and what `row_queues` tells.

    Attributes:
        head_found: from the start of the walk until head 0 is found.
        lines_cleared: from a row's end until its query lines count as room.
        key_released: from the end of a place's last row until the loader counts it as free.
        loads_shown: from the acceptance of a list for K until `row_issue` sees that it was.
        eligible: from the step to a row until it may be taken.
        query_seen: from a query that is there until its row may be taken.
        room_seen: from a beat that leaves queue 1 until a row may be taken for its place.
        retired_seen: from a row that leaves `row_queues` until a row may be taken for its place.
        second_room_seen: from a beat that leaves queue 2 until a second pass may be taken for its place.
        lines_seen: from a row's end until a row may be taken for its query lines.
        lsb_asked: from the decision that a row is flat until the list of LSBs is asked for.
        lsb_settled: from its acceptance until a row may be taken because it is believed to have landed.
        lsb_seen: from LSBs that have landed until a row may be taken.
        landed_seen: from keys that have landed until their beat.
        all_landed_seen: from the last keys that have landed until a pass may be nearly over.
        buffer_seen: from a pass that begins until what has landed for it may be seen.
        first_query: from a row that is taken until the first line of its query is read.
        next_query: until each further one.
        decision_seen: from a decision until the row it is of is looked at.
        passed_seen: from a first pass that is nearly over until its row is looked at.
        second_eligible: from a row that is looked at until its second pass may be taken.
        values_decided: from a decision until `value_lists` may act on it.
    """

    head_found: int
    lines_cleared: int
    key_released: int
    loads_shown: int
    eligible: int
    query_seen: int
    room_seen: int
    retired_seen: int
    second_room_seen: int
    lines_seen: int
    lsb_asked: int
    lsb_settled: int
    lsb_seen: int
    landed_seen: int
    all_landed_seen: int
    buffer_seen: int
    first_query: int
    next_query: int
    decision_seen: int
    passed_seen: int
    second_eligible: int
    values_decided: int

    @classmethod
    def of(cls, machine: AcceleratorConfig) -> "RowTiming":
        """Counted once for `machine`."""
        return _rows(machine)


def _counter(name: str, machine: AcceleratorConfig) -> Callable[..., int]:
    """Registers between wires of a block of the catalog."""
    return RegisterPaths(BLOCKS[name](machine)).between


@cache
def _control(machine: AcceleratorConfig) -> ControlTiming:
    reads, controller, selection = (_counter(n, machine) for n in ("control_read", "controller", "selection"))
    values, outputs = (_counter(n, machine) for n in ("row_values", "output_stage"))
    sent, given = reads("read_request_valid", "sending"), reads("giving", "read_valid")
    descriptor = controller("read_valid", "descriptor_complete", "descriptor_checked", "read_request_valid")
    return ControlTiming(
        first_read=controller("start_valid", "read_request_valid") + sent,
        answered=reads("control_answer_valid", "gives"),
        given=given,
        lists_asked=given + descriptor + sent,
        send_gap=reads("sending", "sending"),
        give_gap=reads("giving", "giving"),
        launched=selection("row_valid", "survivors_checked") + controller("survivors_checked", "layer_start"),
        clear_offered=selection("layer_start", "sweep_valid"),
        survivors_held=selection("merged_row_valid", "mask_out_valid", "all_survivors"),
        protected_held=selection("merged_row_valid", "mask_out_valid", "all_protected"),
        begun=controller("state_launching", "state_running", "selection_start"),
        held_told=controller("lists_held", "selection_start"),
        importance_told=values("importance_ready", "row_added") + controller("row_added", "selection_start"),
        sweep_begun=selection("selection_start", "sweep_sending"),
        walk_begun=selection("selection_start", "walking"),
        heads_asked=controller("state_ending", "heads_wait"),
        outputs_told=outputs("output_ready", "rows_done"),
        heads_read=selection("head_selection_start", "heads_reading"),
        items_given=selection("sweep_results_queue_count", "select_request")
        + values("select_request", "engine_a_in_valid"),
        answered_behind=selection("list_row_ready", "part_2_left", "selection_done")
        + controller("selection_done", "answer_row_valid"),
        done_told=controller("writes_pending", "done_valid"),
    )


@cache
def _rows(machine: AcceleratorConfig) -> RowTiming:
    walk, loader, issue, queues, lists = (
        _counter(n, machine) for n in ("head_walk", "operand_loader", "row_issue", "row_queues", "value_lists")
    )
    decided = queues("decided_valid", "row_decided")
    return RowTiming(
        head_found=walk("walk_start", "walking", "found"),
        lines_cleared=issue("oldest_there", "query_freed") + loader("query_freed", "query_room"),
        key_released=issue("oldest_there", "key_release") + loader("key_release", "key_places_used"),
        loads_shown=loader("key_request_ready", "key_loads"),
        eligible=issue("job_there", "row_there", "first_eligible"),
        query_seen=issue("query_valid", "first_eligible"),
        room_seen=queues("first_leaves", "first_freed") + issue("first_freed", "first_eligible"),
        retired_seen=queues("beat_ready", "row_retired") + issue("row_retired", "first_eligible"),
        second_room_seen=queues("replay_leaves", "replay_freed") + issue("replay_freed", "replay_eligible"),
        lines_seen=issue("cleared", "first_eligible"),
        lsb_asked=decided + issue("row_decided", "lsb_wanted_0", "key_lsb_request_valid"),
        lsb_settled=issue("key_lsb_request_ready", "lsb_waiting_0", "replay_eligible"),
        lsb_seen=issue("key_pending", "lsb_landed_0", "replay_eligible"),
        landed_seen=issue("key_pending", "first_landed_0", "beat_may"),
        all_landed_seen=issue("key_pending", "first_landed_0", "keys_there"),
        buffer_seen=issue("staged_there", "beat_place", "keys_there"),
        first_query=issue("first_taken", "fetching", "query_line_there"),
        # the line before leaves, and this one comes
        next_query=2 * issue("query_line_there", "query_line_there"),
        decision_seen=decided + issue("row_decided", "flats_count", "oldest_there"),
        passed_seen=issue("first_passed", "flats_count", "oldest_there"),
        second_eligible=issue("oldest_there", "replay_eligible"),
        values_decided=decided + lists("row_decided", "decided_wants"),
    )
