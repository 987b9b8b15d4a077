"""The schedules' shapes: pure functions from progress to a factor of the peak learning rate.

`progress`, `u` in the formulas, is the finished share of the steps after the warmup, in [0, 1]. `f` is
`final_lr_fraction`, the factor at the end. `opttune.catalog.schedules` lists the options of each schedule.
"""

from math import cos, floor, pi

_ROUNDING = 1e-9  # a rounding error must not miss a bound that is met exactly in real numbers


def constant(progress: float) -> float:
    """Return 1 throughout.

    Example:
        >>> constant(0.0), constant(1.0)
        (1.0, 1.0)
    """
    return 1.0


def linear(progress: float, final_lr_fraction: float = 0.0) -> float:
    """Return `f + (1 - f) (1 - u)`: a straight line from 1 to `f`.

    Args:
        progress: `u`, in [0, 1].
        final_lr_fraction: `f`, the factor at the end, in [0, 1].

    Example:
        >>> linear(0.0), linear(0.5), linear(1.0, final_lr_fraction=0.1)
        (1.0, 0.5, 0.1)
    """
    return _between(final_lr_fraction, 1 - progress)


def cosine(progress: float, final_lr_fraction: float = 0.0) -> float:
    """Return `f + (1 - f) (1 + cos(pi u)) / 2`: half a cosine from 1 to `f`.

    Args:
        progress: `u`, in [0, 1].
        final_lr_fraction: `f`, the factor at the end, in [0, 1].

    Example:
        >>> cosine(0.0), cosine(0.5), cosine(1.0, final_lr_fraction=0.1)
        (1.0, 0.5, 0.1)
    """
    return _between(final_lr_fraction, (1 + cos(pi * progress)) / 2)


def polynomial(progress: float, power: float = 2.0, final_lr_fraction: float = 0.0) -> float:
    """Return `f + (1 - f) (1 - u)^p`.

    Args:
        progress: `u`, in [0, 1].
        power: `p`, > 0; 1 is linear.
        final_lr_fraction: `f`, the factor at the end, in [0, 1].

    Example:
        >>> polynomial(0.0), polynomial(0.5), polynomial(1.0)
        (1.0, 0.25, 0.0)
    """
    return _between(final_lr_fraction, (1 - progress) ** power)


def warmup_stable_decay(
    progress: float,
    cooldown_fraction: float = 0.2,
    cooldown_shape: str = "one_minus_sqrt",
    final_lr_fraction: float = 0.0,
) -> float:
    """Return 1 until `1 - d`, then `f + (1 - f) g(v)` with `v = 1 - (1 - u) / d`.

    `g(v)` is `1 - v` for `linear` and `1 - sqrt(v)` for `one_minus_sqrt`.

    Args:
        progress: `u`, in [0, 1].
        cooldown_fraction: `d`, share of the steps after the warmup in which the rate falls, in (0, 1].
        cooldown_shape: `linear` or `one_minus_sqrt`.
        final_lr_fraction: `f`, the factor at the end, in [0, 1].

    Example:
        >>> warmup_stable_decay(0.0), warmup_stable_decay(1.0)
        (1.0, 0.0)
        >>> round(warmup_stable_decay(0.9, cooldown_shape="linear"), 9)
        0.5
    """
    cooled = max(0.0, 1 - (1 - progress) / cooldown_fraction)
    return _between(final_lr_fraction, 1 - (cooled if cooldown_shape == "linear" else cooled**0.5))


def inverse_sqrt(progress: float, timescale_fraction: float = 0.1) -> float:
    """Return `1 / sqrt(1 + u / t)`: after `t` the rate is 1 / sqrt(2).

    With `w` warmup steps of `T`, `t = w / (T - w)` gives the Transformer's `sqrt(w / step)`.

    Args:
        progress: `u`, in [0, 1].
        timescale_fraction: `t`, in shares of the steps after the warmup, > 0.

    Example:
        >>> inverse_sqrt(0.0), round(inverse_sqrt(0.3), 9)
        (1.0, 0.5)
        >>> round(inverse_sqrt(1.0), 4)
        0.3015
    """
    return float((1 + progress / timescale_fraction) ** -0.5)


def exponential(progress: float, final_lr_fraction: float = 0.01) -> float:
    """Return `f^u`: the same factor at every step, from 1 to `f`.

    Args:
        progress: `u`, in [0, 1].
        final_lr_fraction: `f`, the factor at the end, in (0, 1].

    Example:
        >>> exponential(0.0), exponential(0.5), exponential(1.0)
        (1.0, 0.1, 0.01)
    """
    return float(final_lr_fraction**progress)


def step(progress: float, drop_count: int = 2, decay_factor: float = 0.1) -> float:
    """Return `g^floor(u (n + 1))` with an exponent of at most `n`: equally spaced drops.

    Args:
        progress: `u`, in [0, 1].
        drop_count: `n`, >= 1.
        decay_factor: `g`, the factor of the rate at each drop, in (0, 1].

    Example:
        >>> [round(step(u), 9) for u in (0.0, 0.34, 0.67, 1.0)]
        [1.0, 0.1, 0.01, 0.01]
    """
    return float(decay_factor ** min(drop_count, floor(progress * (drop_count + 1) + _ROUNDING)))


def multistep(progress: float, milestones: tuple[float, ...] = (0.3, 0.6, 0.9), decay_factor: float = 0.1) -> float:
    """Return `g^n`, where `n` is the number of milestones at or before `u`.

    Args:
        progress: `u`, in [0, 1].
        milestones: Shares of the steps after the warmup, each in (0, 1).
        decay_factor: `g`, the factor of the rate at each drop, in (0, 1].

    Example:
        >>> [round(multistep(u), 9) for u in (0.0, 0.3, 0.7, 1.0)]
        [1.0, 0.1, 0.01, 0.001]
    """
    return float(decay_factor ** sum(progress + _ROUNDING >= milestone for milestone in milestones))


def one_cycle(
    progress: float, rise_fraction: float = 0.3, start_lr_fraction: float = 0.04, final_lr_fraction: float = 4e-6
) -> float:
    """Return half a cosine up from `s` to 1 until `u = r`, then half a cosine down to `f`.

    Args:
        progress: `u`, in [0, 1].
        rise_fraction: `r`, share of the steps spent rising, in (0, 1).
        start_lr_fraction: `s`, the factor at the first step, in [0, 1].
        final_lr_fraction: `f`, the factor at the end, in [0, 1].

    Example:
        >>> one_cycle(0.0), one_cycle(0.3), one_cycle(1.0)
        (0.04, 1.0, 4e-06)
    """
    if progress < rise_fraction:
        return cosine(1 - progress / rise_fraction, start_lr_fraction)
    return cosine((progress - rise_fraction) / (1 - rise_fraction), final_lr_fraction)


def cyclical(progress: float, cycle_count: int = 4, low_lr_fraction: float = 0.1, cycle_decay: float = 1.0) -> float:
    """Return `l + (1 - l) d^k (1 - |2 x - 1|)`: triangles, `k` whole ones before and `x` into the next.

    Args:
        progress: `u`, in [0, 1]; `k + x = n u`.
        cycle_count: `n`, triangles in all, >= 1.
        low_lr_fraction: `l`, the factor at the foot of each, in [0, 1].
        cycle_decay: `d`, the factor of the height from one to the next, in (0, 1].

    Example:
        >>> [round(cyclical(u), 9) for u in (0.0, 0.125, 0.25, 1.0)]
        [0.1, 1.0, 0.1, 0.1]
    """
    whole = min(cycle_count - 1, floor(progress * cycle_count + _ROUNDING))
    height = 1 - abs(2 * (progress * cycle_count - whole) - 1)
    return _between(low_lr_fraction, cycle_decay**whole * height)


def cosine_restarts(
    progress: float, cycle_count: int = 4, cycle_growth: float = 1.0, final_lr_fraction: float = 0.0
) -> float:
    """Return a cosine from 1 to `f` in each of `n` cycles, each `m` times as long as the last.

    Args:
        progress: `u`, in [0, 1].
        cycle_count: `n`, >= 1.
        cycle_growth: `m`, >= 1.
        final_lr_fraction: `f`, the factor at the end of each cycle, in [0, 1].

    Example:
        >>> [round(cosine_restarts(u, cycle_count=2), 9) for u in (0.0, 0.25, 0.5, 1.0)]
        [1.0, 0.5, 1.0, 0.0]
    """
    lengths = [cycle_growth**cycle for cycle in range(cycle_count)]
    done = progress * sum(lengths)
    for length in lengths[:-1]:
        if done + _ROUNDING < length:
            return cosine(done / length, final_lr_fraction)
        done = max(0.0, done - length)
    return cosine(min(1.0, done / lengths[-1]), final_lr_fraction)


def _between(low: float, share: float) -> float:
    return low + (1 - low) * share
