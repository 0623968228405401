"""What outlier detection does, and doesn't do, to the calls of a client."""

from harness.waiting import Deadline, Unmet, eventually

IN_A_ROW = 20
LOOKS_EVERY_S = 5  # that is when Envoy and gRPC go by percentages (xds/cluster_policy.py)


def reaches(client, road, broken):
    """Call until the pod that always fails has answered."""

    def look():
        answer = client.call(road, within=20)
        return f"{broken} is broken" in (answer.error or "") or Unmet(f"{answer}")

    eventually(look, within=40, what=f"a request at {broken}")


def leaves_out(client, road):
    """Call until many calls in a row end well: with one pod of three in use that fails, luck of one in 3,000."""

    def look():
        answers = [client.call(road, within=20) for _ in range(IN_A_ROW)]
        served = sum(answer.server is not None for answer in answers)
        return served == IN_A_ROW or Unmet(f"{served} of {IN_A_ROW} served")

    eventually(look, within=40, what="only good answers")


def errors(client, road):
    """Call for longer than it takes to be looked at; the errors, "" for each good answer."""
    over, seen = Deadline(LOOKS_EVERY_S + 1), []
    while not over.passed:
        seen.append(client.call(road, within=20).error or "")
    return seen
