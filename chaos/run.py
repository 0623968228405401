"""One round of one fault."""

from chaos.stage import Stage, now
from harness.waiting import pause

WARM_S, AFTER_S = 3, 4


def run(row, clients, rate, warm_s=WARM_S, after_s=AFTER_S):
    """One round of a fault. By client: requests since, failures as seconds since the fault, reasons."""
    with Stage(row, clients, rate) as stage:
        pause(warm_s)
        begin = now()
        row.harm(stage)
        pause(after_s)
        found = {}
        for client, (sent, failed) in stage.results().items():
            # A request that was under way when the fault began is the fault's, too.
            since = [at - begin for at in sent if at > begin - 1]
            lost = [(at - begin, why) for at, why in failed if at > begin - 1]
            found[client] = (len(since), lost)
    return found
