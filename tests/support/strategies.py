"""What hypothesis draws in several tests."""

from hypothesis import settings
from hypothesis import strategies as st

# the same examples each time: a test that fails now and then tells nobody anything
FAST = settings(max_examples=200, deadline=None, derandomize=True)

finite = st.floats(allow_nan=False, allow_infinity=False)
# what the YAML readers of this world take for numbers, dates, booleans or signs of their own
_LOOKALIKES = ["1e-4", "1E-3", "1e4", "0x10", "010", "1_000", "1:30", "+5", ".inf", ".nan", "2024-01-31"]
_LOOKALIKES += ["on", "yes", "no", "true", "null", "~", "", "<<", "=", "---", "a\n...\nb", "a: b", "- a", "# a", " a "]
_LOOKALIKES += ["'", '"', "*a", "&a", "!a", "%a"]
texts = st.text(max_size=20) | st.sampled_from(_LOOKALIKES)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.just(10**400)
plain_data = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=10
)
