"""Recipes and their hashes: fixed values, the same everywhere; every parameter counts; what has no name is refused."""

import copy
import datetime
import enum
import functools
import importlib
import importlib.util
import json
import math
import os
import random
import shutil
import string
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from sklearn.pipeline import Pipeline

from spectroxr import recipe
from spectroxr.recipe import processing_hash, recipe_of

SETTINGS = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))

#: By what they need: the hash that steps shall have for ever, and the steps as text that other interpreters can read.
WRITTEN = {
    (): r"""
4f53cda18c2baa0c []
4ab75f43c81d6ebd [('snv', {})]
00c33a814b0e7cda ('savgol', {'window': 11, 'order': 2, 'delta': 1.0})
588e6b2210990f3c [('snv', {}), ('savgol', {'window': 11})]
e89d100992e86635 [('savgol', {'window': 11}), ('snv', {})]
1ed7d52f8eccf3f8 ('x', {'a': 1})
30944a617de9b5e1 ('x', {'a': 1.0})
fb3d24fca34ae30e ('x', {'a': True})
8d3b9eb6aba852d5 ('x', {'a': '1'})
f9bc0d88ec5e2767 ('x', {'a': [float('nan'), float('-inf'), -0.0, 5e-324, 0.1, 1e23, 2**53, -(2**70), None]})
5cb43973cca82a9d ('x', {'a': [1 + 2j, b'\x00\xff', 'é☃\u2028', '\ud83d', slice(1, None, 2), range(3, 10, 3)]})
61264ffbc0d92ac2 ('x', {'a': {'b': {3, 1, 2}, 1: {'c': ()}, (1, 2): frozenset('abc')}})
5139c9ed433f78ba ('x', {'a': [datetime.date(2024, 2, 29), datetime.timedelta(days=-1, microseconds=5)]})
abbf171f883bbcce ('x', {'a': datetime.datetime(2024, 2, 29, 1, 2, 3, 4, datetime.timezone.utc)})
808c7150d2d76861 ('x', {'a': [pathlib.PureWindowsPath('a\\b'), pathlib.PurePosixPath('a/b'), pathlib.PurePosixPath]})
5a011d382dd5b7b1 ('x', {'a': [http.HTTPStatus.OK, re.IGNORECASE | re.ASCII, fractions.Fraction]})
49a6de0382b18259 [math.sqrt, abs, operator.add, str.upper, datetime.date.fromisoformat, functools.reduce]
ad3ba6160b440405 [functools.partial(round, ndigits=2), functools.partial(math.pow, 2.0)]
30bb48a2a45c1c68 [(statistics.quantiles, {'n': 4})]
""",
    ("numpy",): r"""
1cebebe258c5355a ('x', {'a': np.arange(6, dtype='>i4').reshape(2, 3).T})
42380b1b0e8c5b67 ('x', {'a': [np.array([1.5, np.nan, -0.0, np.inf]), np.array([1 + 1j], 'c8'), np.array(0.1, 'f2')]})
ce1c7217f929474d ('x', {'a': [np.array(['é', 'bc']), np.array([b'a']), np.array([True]), np.zeros((0, 3))]})
56041fcbe00e62a0 ('x', {'a': np.array(['2024-02-29', 'NaT'], 'M8[D]')})
fd9c9995111b8fad ('x', {'a': np.array([(1, 2.0)], [('n', 'i1'), ('v', 'f8')])})
918dc564807eeb89 ('x', {'a': np.array([1, 'a', None, 2.0], object)})
ceef480aef54b24c ('x', {'a': [np.float32(0.1), np.int8(1), np.bool_(True), np.str_('a'), np.datetime64(1, 'ns')]})
531197fa3caa6abb ('x', {'a': [np.dtype('f4'), np.float32, np.dtype('M8[ns]'), np.dtype([('a', 'i2', 3)])]})
ffac547dbcfbdfdb [np.log1p, np.mean, np.fft.fft, np.strings.str_len, (np.clip, {'min': np.array([0.0])})]
""",
    ("numpy", "sklearn"): r"""
650df5d2b59fe841 StandardScaler(with_std=False)
378df01cfdbb54ac make_pipeline(StandardScaler(), make_pipeline(MinMaxScaler((0.0, 1.0)), 'passthrough'), Normalizer())
ddb12e82e3a9b6a8 [FunctionTransformer(np.log1p), (np.log10, {}), Normalizer('max')]
a74af86bee3e860f make_union(StandardScaler(), make_pipeline(Normalizer('l1'), FunctionTransformer(np.square)))
344c5a118b0811b3 make_pipeline(SelectKBest(f_classif, k=3), PolynomialFeatures(2, interaction_only=True))
""",
    ("numpy", "sklearn", "chemotools"): r"""
3e597b20c872c9c7 StandardNormalVariate()
04823e8498f2a598 SavitzkyGolay(window_length=11, polyorder=2, deriv=1)
af08e693ffb4e7cc make_pipeline(StandardNormalVariate(), SavitzkyGolay(window_length=5), StandardScaler(with_std=False))
5f3fbf90b188a141 ('x', {'each': [StandardNormalVariate(), StandardScaler(), None]})
""",
}
FIXED = {needs: {line[17:]: line[:16] for line in lines.strip().splitlines()} for needs, lines in WRITTEN.items()}

#: Evaluates them without the package, in any interpreter.
PROGRAM = """
import datetime, fractions, functools, http, importlib.util, json, math, operator, pathlib, re, statistics, sys, types

def evaluated(fixed, recipe):
    found = {}
    for needs, steps in fixed:
        if not all(importlib.util.find_spec(name) for name in needs):
            continue
        if "numpy" in needs:
            import numpy as np
        if "sklearn" in needs:
            from sklearn.feature_selection import SelectKBest, f_classif
            from sklearn.pipeline import make_pipeline, make_union
            from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, Normalizer, PolynomialFeatures
            from sklearn.preprocessing import StandardScaler
        if "chemotools" in needs:
            from chemotools.derivative import SavitzkyGolay
            from chemotools.scatter import StandardNormalVariate
        names = {**globals(), **locals()}
        for text in steps:
            try:
                found[text] = recipe.processing_hash(eval(text, names))
            except TypeError as error:
                # an older release of a library, in which the parameters have other names
                if "unexpected keyword" not in str(error):
                    raise
    return found

if __name__ == "__main__":
    # the package without what its __init__ imports
    package = sys.modules["spectroxr"] = types.ModuleType("spectroxr")
    package.__path__ = [sys.argv[1]]
    recipe = importlib.import_module("spectroxr.recipe")
    assert "numpy" not in sys.modules
    print(json.dumps(evaluated(json.load(sys.stdin), recipe)))
"""


def texts():
    return [[list(needs), list(steps)] for needs, steps in FIXED.items()]


def expected():
    return {text: fixed for steps in FIXED.values() for text, fixed in steps.items()}


def hashes_of(python, *, program=PROGRAM, **environment):
    done = subprocess.run(
        [python, "-c", program, str(Path(recipe.__file__).parent)],
        input=json.dumps(texts()),
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def agrees(found):
    assert found == {text: fixed for text, fixed in expected().items() if text in found}


def test_fixed_hashes():
    names = {"__name__": "evaluated"}
    exec(PROGRAM, names)
    found = names["evaluated"](texts(), recipe)
    agrees(found)
    missing = set(expected()) - set(found)
    assert all("SavitzkyGolay" in text for text in missing)
    assert len(set(found.values())) == len(found)
    assert all(len(one) == 16 and set(one) <= set("0123456789abcdef") for one in found.values())


@pytest.mark.parametrize("seed", ["0", "1", "random"])
def test_hashes_in_another_process(seed):
    found = hashes_of(sys.executable, PYTHONHASHSEED=seed)
    agrees(found)
    assert len(found) >= len(expected()) - 2


def python_of(minor):
    """Return an interpreter of a version of Python, None if there is none."""
    if sys.version_info[1] == minor:
        return sys.executable
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = sorted(root.glob(f"versions/3.{minor}.*/bin/python"))
    return str(found[-1]) if found else shutil.which(f"python3.{minor}")


@pytest.mark.parametrize("minor", [11, 12, 13])
def test_hashes_under_another_python(minor):
    python = python_of(minor)
    if python is None:
        pytest.skip(f"there is no Python 3.{minor} here")
    found = hashes_of(python)
    agrees(found)
    assert set(found) >= set(FIXED[()])


# values


def scalars():
    return st.one_of(
        st.none(), st.booleans(), st.integers(), st.integers(-3, 3), st.floats(), st.sampled_from([0.0, -0.0, 1.0]),
        st.complex_numbers(), st.text(), st.text("\ud83d\ude001", max_size=3), st.sampled_from(["1", "None", "nan"]),
        st.binary(max_size=5), st.dates(), st.datetimes(), st.timedeltas(),
    )  # fmt: skip


def arrays():
    kinds = st.one_of(
        nps.boolean_dtypes(), nps.integer_dtypes(endianness="?"), nps.datetime64_dtypes(endianness="?"),
        nps.floating_dtypes(endianness="?", sizes=(16, 32, 64)), nps.unicode_string_dtypes(endianness="?", max_len=4),
        nps.complex_number_dtypes(endianness="?", sizes=(64, 128)),
    )  # fmt: skip
    return nps.arrays(kinds, nps.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))


def keys():
    return st.one_of(st.text(max_size=3), st.integers(), st.tuples(st.integers(), st.text(max_size=2)), st.none())


def values():
    return st.recursive(
        st.one_of(scalars(), arrays()),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.lists(inner, max_size=4).map(tuple),
            st.dictionaries(keys(), inner, max_size=4),
            st.sets(scalars(), max_size=4),
            st.sampled_from(["float", "array", "dict", "int", "text"]).flatmap(
                lambda kind: inner.map(lambda value: {kind: value})
            ),
        ),
        max_leaves=12,
    )


def normal(value):
    """Return what is equal exactly for values that are to be the same, found without the package."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        flat = value.astype(value.dtype.newbyteorder("=")).ravel()
        return "array", flat.dtype.str, value.shape, tuple(
            repr(item) if flat.dtype.kind in "fcU" else int(item.astype("i8")) for item in flat
        )  # fmt: skip
    if isinstance(value, list | tuple):
        return "list", tuple(normal(item) for item in value)
    if isinstance(value, dict):
        # as a bag: several keys may be NaN
        return "dict", tuple(sorted((repr(normal(key)), repr(normal(item))) for key, item in value.items()))
    if isinstance(value, set | frozenset):
        return "set", tuple(sorted(repr(normal(item)) for item in value))
    return type(value).__name__, repr(value)


def otherwise(value):
    """Return an equal value of other types, in another order and memory layout."""
    if isinstance(value, bool):
        return np.bool_(value)
    if isinstance(value, int):
        return np.int64(value) if -(2**63) <= value < 2**63 else value
    if isinstance(value, float):
        return np.float64(value)
    if isinstance(value, str):
        return np.str_(value) if np.str_(value) == value else value
    if isinstance(value, np.ndarray):
        wider = np.zeros((*value.shape, 2), value.dtype.newbyteorder())
        wider[..., 0] = value
        return wider[..., 0]
    if isinstance(value, list | tuple):
        return (list if isinstance(value, tuple) else tuple)(otherwise(item) for item in value)
    if isinstance(value, dict):
        return {key: otherwise(value[key]) for key in reversed(value)}
    if isinstance(value, set):
        return frozenset(reversed(list(value)))
    return value


def spots(value, path=()):
    """Yield the ways to everything in a value that has no parts."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    ways = [way for key, item in parts for way in spots(item, (*path, key))]
    return ways or [path]


def at_spot(value, path):
    return functools.reduce(lambda found, key: found[key], path, value)


def changed(value, path, new):
    if not path:
        return new
    if isinstance(value, dict):
        return {key: changed(item, path[1:], new) if key is path[0] else item for key, item in value.items()}
    return [changed(item, path[1:], new) if k == path[0] else item for k, item in enumerate(value)]


def hash_of(value):
    return processing_hash([("before", {}), ("step", {"a": value, "b": 1})])


@SETTINGS
@given(values())
def test_equal_values_hash_alike(value):
    fixed = hash_of(value)
    assert hash_of(copy.deepcopy(value)) == fixed
    assert hash_of(otherwise(value)) == fixed


@SETTINGS
@given(values(), st.data())
def test_every_leaf_counts(value, data):
    path = data.draw(st.sampled_from(spots(value)))
    new = data.draw(st.one_of(scalars(), arrays()))
    assume(normal(at_spot(value, path)) != normal(new))
    assert hash_of(changed(value, path, new)) != hash_of(value)


@settings(SETTINGS, max_examples=400)
@given(values(), values())
@example("\ud83d\ude00", "\U0001f600")
@example("\ud83d\ude00", {"text": "eda0bdedb880"})
@example({"a": 1}, {"dict": [["a", 1]]})
@example([1], (1.0,))
@example({1: "a"}, {"1": "a"})
@example(b"a", "a")
@example(np.zeros((2, 3)), np.zeros((3, 2)))
@example(np.zeros(2, "f4"), np.zeros(1, "f8"))
@example(np.array(1), 1)
@example([False], [0])
def test_hashes_are_alike_only_for_equal_values(one, other):
    # as text, for which 0 is not False
    first, second = (json.dumps(recipe_of(("x", {"a": value}))) for value in (one, other))
    assert (first == second) == (normal(one) == normal(other))
    assert (hash_of(one) == hash_of(other)) == (normal(one) == normal(other))


@SETTINGS
@given(values())
def test_what_looks_like_an_encoding_is_none(value):
    [step] = recipe_of(("x", {"a": value}))
    encoded = step["params"]["a"]
    assert (hash_of(encoded) == hash_of(value)) == (normal(encoded) == normal(value))


@SETTINGS
@given(st.lists(st.tuples(st.text(string.ascii_letters, min_size=1), st.dictionaries(
    st.text(string.printable, min_size=1), values(), max_size=3)), max_size=3), st.randoms())  # fmt: skip
def test_recipes_come_back_from_json(steps, order):
    made = recipe_of(steps)
    assert [step["name"] for step in made] == [name for name, _ in steps]
    read = json.loads(json.dumps(made))
    assert read == made
    assert recipe_of(read) == made
    assert processing_hash(read) == processing_hash(steps)
    shuffled = [(name, dict(order.sample(list(params.items()), len(params)))) for name, params in steps]
    assert processing_hash(tuple(shuffled)) == processing_hash(steps)
    if steps and len({json.dumps(step, sort_keys=True) for step in made}) > 1:
        moved = [*steps[1:], steps[0]]
        assert (processing_hash(moved) == processing_hash(steps)) == (json.dumps(recipe_of(moved)) == json.dumps(made))


def test_numbers_and_texts_are_kept_apart():
    alike = [1, 1.0, True, "1", "True", b"1", 1 + 0j, [1], {1}, {1: 1}, {"1": 1}, None, "None", np.array(1),
        np.array([1]), np.array([1], object), np.float32(0.1), 0.1, "0.1", 0.0, -0.0, range(1), slice(1),
        datetime.date(2024, 1, 1), datetime.datetime(2024, 1, 1), "2024-01-01", np.datetime64("2024-01-01"),
        Path("a"), "a", np.dtype("f8"), np.float64, float, "f8", {"float": "1.0"}, {"class": "numpy.float64"},
        2**53, 2.0**53, {"int": hex(2**53)}, math.nan, "nan", math.inf, "inf", np.dtype(">i4"), np.dtype("<i4"),
        np.mean, {"function": "numpy:mean"}, functools.partial(np.mean, axis=1)]  # fmt: skip
    assert len({hash_of(value) for value in alike}) == len(alike)


@pytest.mark.parametrize(("one", "other"), [
    (range(0), range(5, 5)), (range(0, 5, 2), range(0, 6, 2)), (range(1, 2), range(1, 9, 20)),
    (Path("a/b"), Path("a//b")), (np.array([np.nan]), -np.array([np.nan])), (math.nan, -math.nan),
    (np.arange(4.0), np.arange(8.0)[::2] / 2), (np.float32(0.1), float(np.float32(0.1))),
    (np.longdouble(0.5), 0.5), (np.complex64(1j), 1j), (np.bytes_(b"a"), b"a"), ({1, 2}, frozenset([2, 1])),
    (np.array(["a"], np.dtypes.StringDType()), np.array(["a"], np.dtypes.StringDType())),
    (np.rec.array([(1, 2.0)], dtype="i4,f8"), np.array([(1, 2.0)], np.dtype("i4,f8", align=True))),
    (np.array([(1, 2.0)], "i4,f8")[0], np.array((1, 2.0), ">i4,>f8")),
])  # fmt: skip
def test_what_is_equal(one, other):
    assert hash_of(one) == hash_of(other)


def test_any_field_and_any_element_counts():
    table = np.array([(1, 2.0), (3, 4.0)], "i4,f8")
    boxes = np.array([[1, "a"], [None, {"b": [2.0]}]], object)
    found = {hash_of(table), hash_of(boxes)}
    for k, name in ((0, "f0"), (1, "f1")):
        other = table.copy()
        other[name][k] += 1
        found.add(hash_of(other))
    for k in range(4):
        other = boxes.copy()
        other.flat[k] = "another"
        found.add(hash_of(other))
    found.add(hash_of(table.view([("f0", "i4"), ("other", "f8")])))
    assert len(found) == 9


# estimators and functions


def everything():
    """Return one estimator of each class of scikit-learn and chemotools that needs no arguments."""
    from sklearn.utils import all_estimators

    made = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classes = [kind for _, kind in all_estimators()]
        for package in ("augmentation", "baseline", "derivative", "feature_selection", "scale", "scatter", "smooth"):
            module = importlib.import_module(f"chemotools.{package}")
            classes += [kind for kind in vars(module).values() if isinstance(kind, type) and "transform" in dir(kind)]
        for kind in classes:
            try:
                made.append(kind())
            except TypeError:
                continue
    assert len(made) > 190
    return made


@pytest.mark.filterwarnings("ignore")
def test_every_parameter_of_every_estimator_counts():
    for estimator in everything():
        [step] = recipe_of(estimator)
        module, _, name = step["name"].rpartition(".")
        assert getattr(importlib.import_module(module), name) is type(estimator)
        assert "._" not in step["name"]
        fixed = processing_hash(estimator)
        known = step["name"].startswith(("sklearn.", "chemotools."))
        for param in estimator.get_params(deep=False):
            other = copy.copy(estimator)
            setattr(other, param, "another")
            left = known and param in ("memory", "n_jobs", "verbose")
            left &= not (param == "n_jobs" and name in ("LatentDirichletAllocation", "MDS"))
            assert (processing_hash(other) == fixed) == left, (step["name"], param)


def pipeline():
    from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import FeatureUnion
    from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler

    union = FeatureUnion([("a", StandardScaler()), ("b", Pipeline([("c", Normalizer("max"))]))])
    columns = ColumnTransformer([("d", union, [0, 1]), ("e", FunctionTransformer(np.log1p, kw_args={"x": [1]}), [2])])
    target = TransformedTargetRegressor(
        Pipeline([("f", StandardScaler()), ("g", Ridge())]), func=np.log, check_inverse=False
    )
    return Pipeline([("h", columns), ("i", Pipeline([("j", StandardScaler())])), ("k", target)])


def test_every_nested_parameter_counts():
    fixed = processing_hash(pipeline())
    assert processing_hash(copy.deepcopy(pipeline())) == fixed
    params = [name for name in pipeline().get_params() if not hasattr(pipeline().get_params()[name], "get_params")]
    left = 0
    for name in params:
        last = name.rpartition("__")[2]
        if last in ("steps", "transformers", "transformer_list", "d", "e"):
            continue
        other = pipeline().set_params(**{name: "another"})
        without = last in ("n_jobs", "verbose", "memory")
        left += without
        assert (processing_hash(other) == fixed) == without, name
    assert left > 5
    assert len(params) - left > 25


class Backwards(Pipeline):
    """Another class of pipeline, which may do anything with its steps."""


def test_a_pipeline_is_its_steps():
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler

    scale, norm = StandardScaler(), Normalizer()
    made = recipe_of([scale, norm])
    fixed = processing_hash(made)
    for same in (
        (scale, norm),
        make_pipeline(scale, norm),
        make_pipeline(scale, make_pipeline(norm)),
        [make_pipeline(scale), norm],
        Pipeline([("x", scale), ("y", None), ("z", "passthrough"), ("w", norm)], memory="cache", verbose=True),
        make_pipeline(scale, norm).steps,
        made,
        [(step["name"], estimator.get_params()) for step, estimator in zip(made, (scale, norm), strict=True)],
    ):
        assert processing_hash(same) == fixed
    assert processing_hash(make_pipeline(norm, scale)) != fixed
    assert processing_hash(scale) == processing_hash([scale]) == processing_hash(scale.fit([[1.0], [2.0]]))
    assert recipe_of(make_pipeline("passthrough")) == []
    given = Pipeline([("x", scale), ("y", norm)])
    given.transform_input = ["sample_weight"]
    if "transform_input" in given.get_params():
        assert processing_hash(given) != fixed

    assert processing_hash(Backwards([("x", scale), ("y", norm)])) != fixed


def test_labels_count_where_something_asks_for_them():
    from sklearn.compose import ColumnTransformer
    from sklearn.decomposition import PCA
    from sklearn.model_selection import GridSearchCV, KFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def labelled(one, other):
        return Pipeline([(one, PCA()), (other, make_pipeline(PCA(2)))])

    def search(inner):
        return GridSearchCV(inner, {"a__n_components": [1, 2]}, cv=KFold(3))

    def columns(inner):
        return ColumnTransformer([("x", inner, [0])])

    one, other = labelled("a", "b"), labelled("b", "a")
    assert processing_hash(one) == processing_hash(other)
    assert processing_hash(columns(one)) == processing_hash(columns(other))
    assert processing_hash(search(one)) != processing_hash(search(other))
    assert processing_hash(search(columns(one))) != processing_hash(search(columns(other)))
    assert processing_hash(("tune", {"model": one})) != processing_hash(("tune", {"model": other}))
    assert processing_hash(search(one)) != processing_hash(search(one).set_params(cv=KFold(4)))
    assert processing_hash(StandardScaler()) != processing_hash(("x", {"a": StandardScaler()}))


class Own:
    """An estimator that scikit-learn does not know."""

    def __init__(self, memory=3, n_jobs=1, old="deprecated", inner=None):
        self.memory, self.n_jobs, self.old, self.inner = memory, n_jobs, old, inner

    def get_params(self, deep=True):
        assert not deep
        return dict(vars(self))

    class Within(enum.Enum):
        FIRST = 1

    @classmethod
    def make(cls, x):
        return x


class Inherits(Own):
    pass


def own(x, width=3):
    return x


@functools.lru_cache
def cached(x):
    return x


def test_own_classes_and_functions():
    params = {"inner": None, "memory": 3, "n_jobs": 1}
    assert recipe_of(Own()) == [{"name": f"{__name__}.Own", "params": params}]
    assert (
        len({processing_hash(one) for one in (Own(), Inherits(), Own(4), Own(n_jobs=2), Own(old=1), Own(inner=Own()))})
        == 6
    )
    assert recipe_of([own, cached, Own.make]) == [
        {"name": f"{__name__}:{name}", "params": {}} for name in ("own", "cached", "Own.make")
    ]
    same = [functools.partial(own, width=5), (own, {"width": 5}), (f"{__name__}:own", {"width": np.int16(5)})]
    assert len({processing_hash(one) for one in same}) == 1
    assert recipe_of(functools.partial(own, 1, width=5))[0]["args"] == [1]
    assert processing_hash(functools.partial(own, 1)) != processing_hash(functools.partial(own, 1.0))
    assert processing_hash((functools.partial(own, width=4), {"width": 5})) == processing_hash(same[0])
    values = recipe_of(("x", {"a": Own.Within.FIRST, "b": own, "c": functools.partial(own, 1), "d": Own}))
    assert values[0]["params"] == {
        "a": {"enum": [f"{__name__}.Own.Within", "FIRST"]},
        "b": {"function": f"{__name__}:own"},
        "c": {"partial": {"name": f"{__name__}:own", "params": {}, "args": [1]}},
        "d": {"class": f"{__name__}.Own"},
    }


def test_names_in_scripts(tmp_path):
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").touch()
    (tmp_path / "pack" / "mod.py").write_text(
        "from spectroxr.recipe import recipe_of\ndef f(x): return x\n"
        "if __name__ == '__main__': print(recipe_of(f)[0]['name'])\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(recipe.__file__).parents[1])])}
    for how, name in ((["-m", "pack.mod"], "pack.mod:f"), ([str(tmp_path / "pack" / "mod.py")], "__main__:f")):
        found = subprocess.run([sys.executable, *how], env=env, capture_output=True, text=True, check=True)
        assert found.stdout.strip() == name


def test_names_do_not_depend_on_what_was_loaded(tmp_path, monkeypatch):
    for name, text in {
        "lazy/__init__": "def __getattr__(name):\n"
        "    import warnings\n"
        "    if name == 'f':\n"
        "        warnings.warn('late', FutureWarning)\n"
        "        from lazy.inner._code import f\n"
        "        return f\n"
        "    raise AttributeError(name) if name == 'g' else ImportError(name)\n",
        "lazy/inner/__init__": "",
        "lazy/inner/_code": "def f(x): return x\ndef g(x): return x\ndef h(x): return x\n",
    }.items():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    code = importlib.import_module("lazy.inner._code")
    names = ["lazy:f", "lazy.inner._code:g", "lazy.inner._code:h"]
    for how in ("error", "ignore"):
        with warnings.catch_warnings():
            warnings.simplefilter(how)
            assert [step["name"] for step in recipe_of([code.f, code.g, code.h])] == names
    for name in ("lazy", "lazy.inner", "lazy.inner._code"):
        del sys.modules[name]
    with pytest.raises(TypeError, match="step 0: the function f is not what lazy.inner._code has by this name"):
        recipe_of(code.f)


def test_much_may_lie_in_one_another():
    value = estimator = None
    for _ in range(60):
        value, estimator = [value], Own(inner=estimator)
    mapping = functools.reduce(lambda inner, _: {"a": inner}, range(60), 1)
    for steps in (("x", {"a": value}), estimator, ("x", {"a": mapping})):
        made = recipe_of(steps)
        assert recipe_of(json.loads(json.dumps(made))) == made
    with pytest.raises(ValueError, match="flatter"):
        processing_hash(("x", {"a": [[[[[value]]]]]}))


def cyclic_list():
    value = [np.log]
    value.append(value)
    return value


def cyclic():
    value = []
    value.append({"again": value})
    return value


def cyclic_array():
    value = np.empty(1, object)
    value[0] = [value]
    return value


def cyclic_estimator():
    value = Own()
    value.inner = {"again": [value]}
    return value


def cyclic_pipeline():
    value = Pipeline([("a", None)])
    value.steps = [("a", value)]
    return value


def deep():
    value = 1
    for _ in range(10_000):
        value = [value]
    return value


def refusals():
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    def nested(x):
        return x

    class Local(Own):
        pass

    derived = np.ones(2).view(type("Derived", (np.ndarray,), {}))
    renamed = type("Absent", (Own,), {"__module__": __name__})
    imposter = functools.partial(lambda x: x)
    state = np.random.RandomState(0)
    pca = "step 1 (sklearn.decomposition.PCA): random_state: "
    function = "step 0 (sklearn.preprocessing.FunctionTransformer): "
    return {
        "generator": ([StandardScaler(), PCA(random_state=state)], TypeError, pca + "a random generator", "an int"),
        "in a pipeline": (make_pipeline(StandardScaler(), PCA(random_state=state)), TypeError, pca, "an int"),
        "new generator": (("x", {"a": np.random.default_rng(0)}), TypeError, "step 0 (x): a: ", "an int"),
        "bits": (("x", {"a": [np.random.PCG64(0)]}), TypeError, "step 0 (x): a[0]: ", "an int"),
        "seeds": (("x", {"a": np.random.SeedSequence(0)}), TypeError, "step 0 (x): a: ", "an int"),
        "random": (("x", {"a": random.Random(0)}), TypeError, "step 0 (x): a: ", "an int"),
        "lambda": (FunctionTransformer(lambda x: x), TypeError, function + "func: a lambda", "function of a module"),
        "deeper": (FunctionTransformer(kw_args={"k": [1, nested]}), TypeError, function + "kw_args['k'][1]: ", "level"),
        "step": ([np.log, nested], TypeError, "step 1: the function nested", "level of its module"),
        "partial": ([imposter], TypeError, "step 0: a lambda", "function of a module"),
        "class": (Local(), TypeError, "step 0: the class Local", "level of its module"),
        "absent": (renamed(), TypeError, "step 0: the class Absent", "imported"),
        "inner": (Own(inner=Own(inner=Local())), TypeError, f"step 0 ({__name__}.Own): inner.inner: ", "level"),
        "method": (StandardScaler().fit, TypeError, "step 0: StandardScaler.fit ", "function"),
        "built-in method": ([].append, TypeError, "step 0: list.append", "function"),
        "ufunc": (np.frompyfunc(own, 1, 1), TypeError, "step 0: ", "imported"),
        "instance": (StandardScaler, TypeError, "step 0: the class StandardScaler", "estimator made of it"),
        "pair of class": ((StandardScaler, {}), TypeError, "step 0: the class StandardScaler", "parameters set"),
        "partial class": (functools.partial(StandardScaler), TypeError, "step 0: a partial of", "function"),
        "object": (("x", {"a": object()}), TypeError, "step 0 (x): a: an object of type object", "give"),
        "module": (("x", {"a": np.random}), TypeError, "step 0 (x): a: ", "give"),
        "bytearray": (("x", {"a": memoryview(b"a")}), TypeError, "step 0 (x): a: ", "give"),
        "masked": (("x", {"a": np.ma.ones(2)}), TypeError, "step 0 (x): a: ", "np.asarray"),
        "matrix": (("x", {"a": derived}), TypeError, "step 0 (x): a: ", "np.asarray"),
        "long": (("x", {"a": np.ones(2, np.longdouble)}), ValueError, "step 0 (x): a: ", "float64"),
        "one long": (("x", {"a": np.nextafter(np.longdouble(1), 2)}), ValueError, "step 0 (x): a: ", "float"),
        "itself": (("x", {"a": cyclic()}), ValueError, "step 0 (x): a[0]['again']: ", "itself"),
        "array": (("x", {"a": cyclic_array()}), ValueError, "step 0 (x): a[0][0]: ", "itself"),
        "estimator": (cyclic_estimator(), ValueError, f"step 0 ({__name__}.Own): inner['again'][0]: ", "itself"),
        "pipeline": (cyclic_pipeline(), ValueError, "steps: sklearn.pipeline.Pipeline", "itself"),
        "list": (cyclic_list(), ValueError, "steps: list contains", "ends"),
        "deep": (("x", {"a": deep()}), ValueError, "step 0 (x): a[0][0]", "flatter"),
        "deep list": (deep(), ValueError, "steps: ", "flatter"),
        "name": ("snv", TypeError, "step 0: only the name 'snv'", "(name, params)"),
        "no params": (("snv", None), TypeError, "step 0: only the name 'snv'", "{}"),
        "number": ([("snv", {}), 3], TypeError, "step 1: ", "give"),
        "none": (None, TypeError, "step 0: ", "give"),
        "dict": ({"snv": {}}, TypeError, "steps: a dict", "order"),
        "keys": (("x", {1: 2}), TypeError, "step 0 (x): a name of type int", "text"),
        "function keys": ((own, {1: 2}), TypeError, "step 0: a name of type int", "text"),
        "empty": (("", {}), ValueError, "step 0: ''", "not empty"),
        "half": (("\ud83d", {}), ValueError, "step 0: ", "half"),
        "first": ((3, {}), TypeError, "step 0: ", "(name, params)"),
        "float in a recipe": ([{"name": "x", "params": {"a": [0.5]}}], ValueError, "step 0 (x): a[0]: ", "pair"),
        "dict in a recipe": ([{"name": "x", "params": {"a": {"b": 1}}}], ValueError, "step 0 (x): a: ", "pair"),
        "within": ([{"name": "x", "params": {"a": {"float": 1.0}}}], ValueError, "step 0 (x): a.float: ", "pair"),
        "args of a recipe": ([{"name": "x", "params": {}, "args": 1}], TypeError, "step 0 (x): ", "recipe_of"),
        "big in a recipe": ([{"name": "x", "params": {"a": 2**60}}], ValueError, "step 0 (x): a: ", "pair"),
    }  # fmt: skip


@pytest.mark.parametrize("case", refusals())
def test_what_is_refused(case):
    steps, kind, where, instead = refusals()[case]
    if case == "one long" and np.dtype(np.longdouble).itemsize == 8:
        pytest.skip("longdouble is float64 here")
    with pytest.raises(kind) as caught:
        processing_hash(steps)
    assert type(caught.value) is kind
    assert str(caught.value).startswith(where), str(caught.value)
    assert instead in str(caught.value)
    assert " at 0x" not in str(caught.value)


def test_open_files_are_refused(tmp_path):
    with (
        (tmp_path / "a").open("wb") as file,
        pytest.raises(TypeError, match=r"step 0 \(x\): a: an open file; give its path"),
    ):
        processing_hash(("x", {"a": file}))


class Broken(Own):
    def get_params(self, deep=True):
        raise RuntimeError("no")


class Wrong(Own):
    def get_params(self, deep=True):
        return [1]


@pytest.mark.parametrize("kind", [Broken, Wrong])
def test_estimators_without_parameters_are_refused(kind):
    with pytest.raises(TypeError, match="get_params of .*(Broken|Wrong)"):
        processing_hash(kind())
