"""Learning to memorise at test time (paper section 3), in the order of the four choices of Miras.

Glossary, symbol -> name here -> where it is defined:

    M_t, W_t    weights       fast weights after token t                       eq. 13   ``state``
    S_t         momentum      accumulated past surprise                        eq. 14   ``state``
    M_t'        anchor        weights at the last chunk boundary               eq. 16   ``state``
    f, M(.)     structure     matrix or MLP with weights W                     3.1      ``structure``
    l           objective     loss of a key and its value                      eq. 12   ``objective``
    alpha_t     decay         share of the old weights that is forgotten       eq. 13   ``retention``
    eta_t       momentum      share of past surprise that is carried           eq. 10   ``learner``
    theta_t     step size     share of momentary surprise that is written      eq. 10   ``learner``
    grad l      surprise      gradient of the loss with respect to W           eq. 8    ``recurrent``
    b           chunk_size    tokens that share an anchor                      3.2      ``chunked``
    C           segment_size  span of MAC's attention; not a chunk             4.1      ``blocks.mac``
    k, v, q     key, value, query                                              eq. 11, 15  ``projections``

``gates`` makes alpha, eta and theta from the input, ``projections`` keys, values and queries.

Axes: B rows, T tokens, H heads, L memory layers, d head width, b slots of a chunk.
``recurrent`` is the definition; ``chunked`` and ``online`` are fast forms that equal it. What a chunk's queries read
is in ``writes``, in ``formed`` where each token's weights have to be formed; ``omega``, ``periods`` and ``hierarchy``
are what ATLAS and TNT add.
"""

from titans_mlx.memory.hierarchy import CoarseAndFine
from titans_mlx.memory.layer import NeuralMemory, Observer
from titans_mlx.memory.state import MemoryState

__all__ = ["CoarseAndFine", "MemoryState", "NeuralMemory", "Observer"]
