"""What else is known of clients, what trimtab makes of it, and the tests that show it."""

from dataclasses import dataclass

SOTW = "tests/xds/test_server_sotw.py::"
DELTA = "tests/xds/test_server_delta.py::"
NEVER = "tests/xds/test_never_sent.py::"
RESOURCES = "tests/xds/test_resources.py::"
SERVER = "tests/control/test_server.py::"
CHANGES = "tests/native/test_cluster_changes.py::"
PEERS = "tests/server/test_weighted_peers.py::"
LOSS = "tests/native/test_control_plane_loss.py::"
OUTLIERS = "tests/native/test_outlier_detection.py::"
CONTRACT = "interop/xds_client_contract.py::"
BEHAVIOURS = "interop/test_rejection_behaviours.py::"
TABLE = BEHAVIOURS + "test_a_client_behaves_as_the_table_says"


@dataclass(frozen=True)
class Note:
    """One fact and its decision.

    Attributes:
        title: what it is about.
        text: what clients do, and what trimtab does about it.
        tests: what shows it; none where trimtab has nothing of the kind.
    """

    title: str
    text: str
    tests: tuple = ()


NOTES = (
    Note(
        "Bad endpoints beside good ones",
        "Envoy refuses a whole response for one bad resource, Node leaves a new channel "
        "waiting; see the table. trimtab sends no such endpoints, and after a NACK of a cluster its last "
        "good version stays in the full set.",
        (
            TABLE,
            NEVER + "test_no_endpoints_that_any_client_rejects_are_sent",
            SOTW + "test_a_bad_change_of_a_cluster_leaves_its_last_good_version_in_the_full_set",
        ),
    ),
    Note(
        "Outlier detection without its success rate fields",
        "The process of Node's gRPC ends with a TypeError. trimtab's outlier detection has every field.",
        (
            BEHAVIOURS + "test_outlier_detection_without_success_rate_fields_ends_a_node_process",
            NEVER + "test_no_cluster_that_any_client_rejects_is_sent",
        ),
    ),
    Note(
        "Effects of outlier detection in native gRPC",
        "Locality weights aren't balanced anew after an ejection: the other pods of its zone take its "
        "requests. The success rate counts only if its enforcement is set. trimtab sends that as 0 and goes "
        "by the percentage of failures, where two pods or more had 20 requests each in 5 s.",
        (
            NEVER + "test_no_cluster_that_any_client_rejects_is_sent",
            OUTLIERS + "test_a_pod_that_fails_is_left_out",
            OUTLIERS + "test_the_only_pod_is_never_left_out",
            CONTRACT + "test_a_pod_that_fails_is_left_out_and_the_only_one_never",
        ),
    ),
    Note(
        "A changed cluster in Envoy",
        "It is used only when endpoints are sent again, or after 15 s. trimtab sends them again.",
        (
            CHANGES + "test_a_changed_policy_is_active_in_envoy_at_once_and_costs_no_request",
            SOTW + "test_after_a_change_of_a_cluster_its_endpoints_are_sent_again",
            DELTA + "test_after_a_change_of_a_cluster_its_endpoints_are_sent_with_a_new_version",
        ),
    ),
    Note(
        "Versions after a restart",
        "A client over delta brings the versions that it has, and one that counts from 1 again would "
        "be taken for known. Versions are hashes of the content.",
        (
            RESOURCES + "test_versions_depend_on_content_only",
            SOTW + "test_versions_are_equal_on_every_replica",
            DELTA + "test_a_client_that_reconnects_receives_only_the_differences",
        ),
    ),
    Note(
        "Codes and texts of NACKs, and nodes",
        "Codes and announced features differ by client; an error makes a NACK, whatever its code. The "
        "node may come in the first request only. Of long texts the end is kept.",
        (
            TABLE,
            SOTW + "test_a_nack_is_known_by_its_error_not_by_its_version",
            SOTW + "test_the_node_of_the_first_request_counts_for_the_stream",
            SOTW + "test_of_a_long_nack_the_end_is_kept",
        ),
    ),
    Note(
        "Messages above 4 MiB",
        "Most gRPC clients end the stream without a word of which resource it was, and keep what they "
        "have. trimtab splits what it can below 3.5 MB, serves subsets of a cluster that is too large, "
        "and sends a full set that can't be split with a warning.",
        (
            TABLE,
            SOTW + "test_many_assignments_are_split_over_messages_below_the_limit",
            SOTW + "test_a_full_set_that_cannot_be_split_is_sent_and_said",
            DELTA + "test_a_large_answer_is_split_over_messages_below_the_limit",
            RESOURCES
            + "test_a_cluster_too_large_for_a_message_is_served_in_subsets_that_differ_by_client",
        ),
    ),
    Note(
        "HTTP/2 in Envoy",
        "A gRPC server is reached only with HTTP/2 options in the cluster. trimtab sends them for "
        "ports that say so.",
        (RESOURCES + "test_envoy_speaks_http2_to_ports_that_say_so",),
    ),
    Note(
        "A restart of the control plane",
        "Clients reconnect within seconds and use what they have meanwhile.",
        (
            LOSS
            + "test_a_killed_control_plane_costs_no_request_and_is_followed_again_when_it_is_back",
            LOSS + "test_an_orderly_restart_costs_no_request",
        ),
    ),
    Note(
        "Many clients at once",
        "A gRPC server's defaults refuse streams when thousands come together. trimtab raises them.",
        (SERVER + "test_many_streams_at_once_are_all_served",),
    ),
    Note(
        "Stopping with open streams",
        "grpc.aio prints a traceback for each. trimtab ends its handlers first.",
        (SERVER + "test_stopping_with_open_streams_is_quick_and_leaves_no_traceback",),
    ),
    Note(
        "Listeners that bind a port",
        "Envoy NACKs a port that is taken, with the rest of the response applied; so such ports belong "
        "below 32768. trimtab sends listeners for gRPC clients only, which bind nothing.",
        (RESOURCES + "test_a_listener_carries_its_routes_and_ends_with_the_router",),
    ),
    Note(
        "Load reports in trailers",
        "Clients weigh endpoints by what servers report.",
        (
            PEERS + "test_native_weighted_round_robin_gives_a_busy_server_an_eighth",
            PEERS + "test_envoy_s_weighted_round_robin_gives_a_busy_server_an_eighth",
        ),
    ),
)
