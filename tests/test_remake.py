"""Steps made from recipes: they have the recipe that they were made from, and nothing foreign is imported."""

import copy
import datetime
import functools
import http
import json
import math
import re
import subprocess
import sys
import warnings
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, Normalizer, RobustScaler, StandardScaler
from test_recipe import Own, everything, keys, own, pipeline, scalars, texts

from spectroxr.recipe import processing_hash, recipe_of
from spectroxr.remake import TRUSTED, made_of

SETTINGS = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
OWN = (*TRUSTED, Own.__module__)


def comes_back(steps, trusted=TRUSTED):
    """Return steps made from a recipe after it was a file, when they have this recipe."""
    written = json.dumps(recipe_of(steps), sort_keys=True)
    made = made_of(json.loads(written), trusted)
    assert json.dumps(recipe_of(made), sort_keys=True) == written
    assert processing_hash(made) == processing_hash(steps)
    return made


def value_back(value, trusted=OWN):
    [made] = comes_back((own, {"x": value}), trusted)
    return made.keywords["x"]


# what is made


def test_estimators_and_functions():
    made = comes_back(
        [StandardScaler(with_std=False), np.log1p, (np.clip, {"min": 0.0}), functools.partial(np.power, 2)]
    )
    assert isinstance(made[0], StandardScaler) and not made[0].with_std
    assert made[1](np.e - 1) == 1
    assert made[2](np.array([-1.0, 1.0]), max=0.5).tolist() == [0.0, 0.5]
    assert made[3](5) == 32
    assert comes_back([]) == []


def test_two_estimators_are_never_the_same_object():
    scale = StandardScaler()
    one, other = comes_back([scale, scale])
    assert one is not other and one is not scale


def test_pipelines_do_the_same():
    table = np.random.default_rng(0).uniform(1, 2, (20, 3))
    target = table.sum(axis=1) + 1
    flat = make_pipeline(MinMaxScaler((0.0, 2.0)), make_pipeline(Normalizer("max"), "passthrough"), RobustScaler())
    expected = flat.fit_transform(table)
    again = make_pipeline(*comes_back(flat))
    np.testing.assert_array_equal(again.fit_transform(table), expected)

    inner = FunctionTransformer(np.clip, kw_args={"min": 0.1, "max": 0.3})
    union = make_union(StandardScaler(), make_pipeline(Normalizer("l1"), inner), make_pipeline("passthrough"))
    [again] = comes_back(union)
    assert type(again) is FeatureUnion
    np.testing.assert_array_equal(again.fit_transform(table), union.fit_transform(table))

    # columns, a union, a nested pipeline with labels, and functions
    whole = pipeline().set_params(h__e__kw_args=None, k__inverse_func=np.exp)
    made = comes_back(whole)
    again = Pipeline([(str(k), step) for k, step in enumerate(made)])
    expected = whole.fit(table, target).predict(table)
    np.testing.assert_array_equal(again.fit(table, target).predict(table), expected)


def test_searches_splitters_and_selectors():
    from sklearn.compose import ColumnTransformer, make_column_selector
    from sklearn.decomposition import PCA
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV, KFold, RepeatedKFold

    model = Pipeline([("a", PCA()), ("b", Ridge())])
    for cv in (KFold(3, shuffle=True, random_state=1), RepeatedKFold(n_splits=3, n_repeats=2, random_state=0), 4):
        [made] = comes_back(GridSearchCV(model, {"a__n_components": [1, 2]}, cv=cv))
        table = np.random.default_rng(0).normal(size=(20, 3))
        other = GridSearchCV(copy.deepcopy(model), {"a__n_components": [1, 2]}, cv=cv).fit(table, table[:, 0])
        made.fit(table, table[:, 0])
        np.testing.assert_array_equal(made.cv_results_["mean_test_score"], other.cv_results_["mean_test_score"])
    [made] = comes_back(ColumnTransformer([("x", StandardScaler(), make_column_selector("a", dtype_include=float))]))
    assert made.transformers[0][2].pattern == "a"


@pytest.mark.filterwarnings("ignore")
def test_every_estimator():
    for estimator in everything():
        [made] = comes_back(estimator)
        assert type(made) is type(estimator)
        for name, value in estimator.get_params(deep=False).items():
            kind = type(value.item() if isinstance(value, np.generic) else value)
            assert type(getattr(made, name)) is kind, (type(estimator), name)


def test_functions_of_other_packages():
    asls = pytest.importorskip("pybaselines.whittaker").asls
    from scipy.ndimage import gaussian_filter1d
    from scipy.special import expit

    made = comes_back([(asls, {"lam": 1e5}), (gaussian_filter1d, {"sigma": 2, "axis": -1}), expit])
    spectrum = np.linspace(0, 1, 50) ** 2
    np.testing.assert_array_equal(made[0](spectrum)[0], asls(spectrum, lam=1e5)[0])
    np.testing.assert_array_equal(made[1](spectrum), gaussian_filter1d(spectrum, 2))
    assert made[2].func is expit


def test_much_may_lie_in_one_another():
    estimator = functools.reduce(lambda inner, _: Own(inner=inner), range(60), None)
    comes_back(estimator, OWN)
    value_back(functools.reduce(lambda inner, _: {"a": inner}, range(60), 1))
    value_back(functools.reduce(lambda inner, _: [inner], range(60), 1))
    deep = functools.reduce(lambda inner, _: [inner], range(1000), 1)
    with pytest.raises(ValueError, match="flatter"):
        made_of(step("numpy:clip", x=deep))
    for layers in (200, 255):
        made_of(step("numpy:clip", x=functools.reduce(lambda inner, _: [inner], range(layers), 1)))


def test_own_classes():
    made = comes_back([Own(inner=[Own(inner=StandardScaler()), own]), functools.partial(own, 1, width=5)], OWN)
    assert isinstance(made[0].inner[0].inner, StandardScaler)
    assert made[0].inner[1] is own
    assert (made[1].args, made[1].keywords) == ((1,), {"width": 5})


def test_a_function_in_a_nested_pipeline():
    [made] = comes_back(make_union(Pipeline([("a", np.log1p)])))
    assert type(made.transformer_list[0][1]) is Pipeline


@pytest.mark.parametrize("value", [
    None, True, 1, 2**60, -(2**60), 0.1, -0.0, math.inf, 1 - 2j, "é☃", "\ud83d", b"\x00\xff", "", [1, [2.5, "a"]],
    datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 1, 2, 3, 4), datetime.timedelta(-1, 3, 5),
    datetime.datetime(2024, 2, 29, tzinfo=datetime.timezone(datetime.timedelta(hours=5, minutes=30))),
    datetime.datetime(2024, 10, 27, 2, fold=1), Path("a/b"), Path("\udcff"), range(3, 12, 3), range(2**70, 2**70 + 3),
    slice(1, None, 2.0), slice("a", "b"), {1, 2}, {"a", ("b", (1.0, None))}, {}, {"b": {1: {}}, None: [], (1, 2): 3},
    {frozenset([1]): {"x": b""}}, Own.Within.FIRST, http.HTTPStatus.OK, re.IGNORECASE | re.ASCII, re.RegexFlag(0),
    np.float32, np.dtype("f4"), np.dtype(">i4"), np.dtype("M8[ns]"), np.dtype("i4,f8"), np.dtype("U5"),
    np.dtype([("a", "i2", 3), ("é", [("b", "O")])]), np.dtypes.StringDType(), np.dtype(np.longdouble), np.dtype([]),
    np.datetime64("2024-02-29"), np.datetime64("NaT", "D"), np.timedelta64(5, "ms"), np.timedelta64(7, "D"), float, str,
    Own, own, np.log1p, np.strings.str_len, np.fft.fft,
])  # fmt: skip
def test_values(value):
    made = value_back(value, (*OWN, "http", "re"))
    assert type(made) is type(value)
    assert made == value or (made != made and value != value)
    assert repr(made) == repr(value) or isinstance(value, set | dict)


def test_values_that_compare_otherwise():
    assert math.isnan(value_back(math.nan))
    assert len(value_back({math.nan, float("nan")})) == 2
    assert value_back(range(3, 10, 3)) == range(3, 12, 3)
    aligned = np.dtype("i4,f8", align=True)
    assert value_back(aligned) == aligned
    assert value_back((1, (2,))) == [1, [2]]
    assert value_back(frozenset([1])) == {1}
    assert value_back(PurePosixPath("a")) == Path("a")
    made = value_back(functools.partial(own, 1, width=np.int8(2)))
    assert (made.func, made.args, made.keywords) == (own, (1,), {"width": 2})
    for array in (np.array([[1, "a"], [None, {"b": [2.0]}]], object), np.array(["a", "é"], np.dtypes.StringDType())):
        made = value_back(array)
        assert made.dtype == array.dtype and made.tolist() == array.tolist()
    assert value_back(np.array([], object)).shape == (0,)


def test_tuples_are_made_where_they_are_the_default():
    [one, other] = comes_back([MinMaxScaler((0, 2)), RobustScaler(quantile_range=(10.0, 90.0))])
    assert one.feature_range == (0, 2) and other.quantile_range == (10.0, 90.0)
    [made] = comes_back((np.linalg.norm, {"axis": (0, 1)}))
    assert made.keywords["axis"] == [0, 1]


def values():
    return st.recursive(
        scalars(),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.lists(inner, max_size=3).map(tuple), st.sets(scalars(), max_size=4),
            st.dictionaries(keys(), inner, max_size=4), inner.map(Normalizer),
            inner.map(lambda value: make_union(StandardScaler(), make_pipeline(Normalizer(value), Normalizer()))),
            inner.map(lambda value: functools.partial(np.clip, value, min=value)),
        ),
        max_leaves=10,
    )  # fmt: skip


@SETTINGS
@given(st.lists(values(), max_size=3))
def test_any_value_comes_back(several):
    comes_back([(np.clip, {"x": value}) for value in several])
    comes_back([StandardScaler(copy=value) for value in several])


def test_the_fixed_recipes():
    from test_recipe import PROGRAM

    names = {"__name__": "evaluated"}
    exec(PROGRAM, names)
    seen = []

    class Kept:
        @staticmethod
        def processing_hash(steps):
            seen.append(steps)

    names["evaluated"](texts(), Kept)
    done = 0
    for steps in seen:
        [*found] = recipe_of(steps)
        for step in found:
            # names that are no functions: their values as those of one that is
            step["name"] = step["name"] if set(step["name"]) & set(".:") else f"{own.__module__}:own"
        trusted = (*OWN, *sys.stdlib_module_names)
        if "sha256" in json.dumps(found):
            with pytest.raises(ValueError, match="only a checksum"):
                made_of(found, trusted)
        else:
            comes_back(found, trusted)
            done += 1
    assert done > 20


# what is refused


def step(name, **params):
    return [{"name": name, "params": params}]


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """Return the name of a module that tells when it is imported."""
    (tmp_path / "foreign_code.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "foreign_code"
    assert "foreign_code" not in sys.modules


@pytest.mark.parametrize("made", [
    lambda name: step(f"{name}:f"), lambda name: step(f"{name}.Class"),
    lambda name: step("numpy:clip", x={"function": f"{name}:f"}),
    lambda name: step("numpy:clip", x={"class": f"{name}.C"}),
    lambda name: step("numpy:clip", x=[{"dict": [["k", {"enum": [f"{name}.E", "A"]}]]}]),
    lambda name: step("numpy:clip", x={"partial": step(f"{name}:f")[0]}),
    lambda name: step("numpy:clip", x={"recipe": step(f"{name}.C")}),
    lambda name: step("numpy:clip", x={"object": step(f"{name}.C")[0]}),
    lambda name: step("sklearn.preprocessing.FunctionTransformer", func={"function": f"{name}:f"}),
])  # fmt: skip
def test_what_is_not_trusted_is_not_imported(foreign, made):
    with pytest.raises(
        ValueError, match=r"step 0 .*foreign_code.* is not trusted .*\(\*TRUSTED, 'foreign_code'\)"
    ) as caught:
        made_of(made(foreign))
    assert type(caught.value) is ValueError


@pytest.mark.parametrize("name", [
    "builtins:eval", "builtins:exec", "os:system", "posix:system", "subprocess.Popen", "numpy.testing:os.system",
    "sklearn.utils.fixes:sys.exit", "sklearn.base:warnings.warn", "sklearn.pipeline:deepcopy", "sklearn:os.system",
    "numpy.f2py:os.system", "sklearn.pipeline:Path.home", "sklearn.pipeline:defaultdict.fromkeys",
    "sklearn.pipeline.defaultdict", "numpy.lib._npyio_impl.operator.itemgetter", "numpyfoo:f", "xnumpy:f",
])  # fmt: skip
def test_nothing_foreign_is_reached_through_trusted_modules(name):
    with pytest.raises(ValueError, match=r"^step 0 \(.*(is not trusted|cannot be imported|is no )"):
        made_of(step(name))


@pytest.mark.parametrize(("recipe", "message"), [
    (step("snv"), r"step 0 \(snv\): 'snv' is no class or function of a package"),
    (step("numpy.f2py.__main__:main"), "is no name of a class or function"),
    (step("numpy:mean.__globals__"), "is no name of a class or function"),
    (step("numpy:.mean"), "is no name"),
    (step("numpy.:mean"), "is no name"),
    (step("numpy:"), "no class or function"),
    (step("numpy:nothing"), r"numpy:nothing cannot be imported \(numpy has no nothing\)"),
    (step("numpy.nothing:f"), "cannot be imported"),
    (step("sklearn.nothing.Scaler"), "cannot be imported"),
    (step("sklearn.preprocessing.Nothing"), "cannot be imported"),
    (step("numpy:pi"), "numpy:pi is no function"),
    (step("numpy:ndarray"), "numpy:ndarray is no function"),
    (step("numpy.mean"), "numpy.mean is no class"),
    (step("sklearn.preprocessing"), "is no class"),
    (step("numpy.memmap", filename="a", mode="w+"), "numpy.memmap is no class of estimators"),
    ([{"name": "sklearn.preprocessing.StandardScaler", "params": {}, "args": [1]}], "positional"),
    (step("sklearn.preprocessing.StandardScaler", other=1), "StandardScaler cannot be made with these .*other"),
    (step("numpy:clip", x={"object": {"name": "numpy.memmap", "params": {"filename": "a"}}}), "no class of splitters"),
    (step("numpy:clip", x={"class": "numpy:mean"}), r"step 0 \(numpy:clip\): x: numpy:mean is no class"),
    (step("numpy:clip", x={"function": "numpy.float64"}), "numpy.float64 is no function"),
    (step("numpy:clip", x={"enum": ["numpy.float64", "A"]}), "is no enumeration"),
    (step("numpy:clip", x={"recipe": [{}]}), "x: no recipe has {'recipe': …} like this"),
    (step("numpy:clip", x={"dict": [1]}), "x: no recipe has {'dict': …} like this"),
    (step("numpy:clip", x={"dict": [[{"dict": []}, 1]]}), "x: no recipe has {'dict': …} like this"),
    (step("numpy:clip", x={"dict": [["a", 1], ["a", 2]]}), "two keys"),
    (step("numpy:clip", x={"set": [1, 1]}), "two values"),
    (step("numpy:clip", x={"float": "one"}), "x: no recipe has {'float': …} like this"),
    (step("numpy:clip", x={"set": [{"a": 1, "b": 2}]}), "x: no recipe has {'a', 'b': …} like this"),
    (step("numpy:clip", x={"array": {"shape": [10**9, 10**9], "dtype": "O", "values": []}}), "0 values"),
    (step("numpy:clip", x={"array": {"shape": [1], "dtype": "V1000000000000", "values": [1]}}), "dtype V1"),
    (step("numpy:clip", x={"a": 1}), "no recipe has an object of type dict"),
])  # fmt: skip
def test_damaged_and_foreign_recipes_are_refused(recipe, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        made_of(recipe)
    assert type(caught.value) is ValueError
    assert str(caught.value).startswith("step 0 (")
    assert not list(tmp_path.iterdir())


def test_arrays_are_refused_by_name():
    from sklearn.preprocessing import SplineTransformer

    recipe = recipe_of([StandardScaler(), SplineTransformer(knots=np.ones((3, 1)))])
    with pytest.raises(ValueError, match=r"^step 1 \(sklearn.*SplineTransformer\): knots: an array, of which"):
        made_of(recipe)
    recipe = recipe_of(FunctionTransformer(np.clip, kw_args={"min": [np.array([(1, 2.0)], "i4,f8")]}))
    with pytest.raises(ValueError, match=r"FunctionTransformer\): kw_args\['min'\]\[0\]: an array"):
        made_of(recipe)


@pytest.mark.parametrize("recipe", [{}, "snv", [StandardScaler()], StandardScaler(), [("snv", {})], None])
def test_what_is_no_recipe(recipe):
    with pytest.raises(TypeError, match="a recipe is a list of dicts"):
        made_of(recipe)


def test_one_package_may_be_trusted_by_its_name():
    with pytest.raises(ValueError, match="not trusted"):
        made_of(step("numpy:log1p"), "numpy.random")
    with pytest.raises(ValueError, match="not trusted"):
        made_of(step("os:getcwd"), "cosmos")
    assert made_of(step("math:sqrt"), "math")[0](4) == 2
    with pytest.raises(ValueError, match="not trusted"):
        made_of(step("numpy:log1p"), ())


def test_functions_of_a_script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(
        "from spectroxr.recipe import recipe_of\nfrom spectroxr.remake import made_of\ndef f(x): return x + 1\n"
        "[made] = made_of(recipe_of(f), trusted='__main__')\nassert made(1) == 2\n"
    )
    with warnings.catch_warnings():
        subprocess.run([sys.executable, "-W", "error", str(path)], check=True, timeout=120)
