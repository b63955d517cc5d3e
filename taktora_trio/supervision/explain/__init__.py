"""A policy in figures, worked out before anything is started.

explanation     the figures
worst_hour      the most restarts that a policy allows
contradictions  fields that cancel out, or surprise
delays          the delays between restarts
text            explanations for people
search          binary search
figures         durations and ordinals for people
"""

from taktora_trio.supervision.explain.contradictions import check
from taktora_trio.supervision.explain.explanation import Explanation, explain, explain_all, to_json
from taktora_trio.supervision.explain.text import table, to_text
from taktora_trio.supervision.explain.worst_hour import most_restarts

__all__ = ["Explanation", "check", "explain", "explain_all", "most_restarts", "table", "to_json", "to_text"]
