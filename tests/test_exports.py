import trimtab
import trimtab.aio


def test_the_face_exports_what_it_lists_and_nothing_else():
    public = {
        name
        for name, value in vars(trimtab).items()
        if not name.startswith("_") and not hasattr(value, "__path__") and name != "version"
    }
    modules = {name for name in public if type(vars(trimtab)[name]).__name__ == "module"}
    assert public - modules | {"__version__"} == set(trimtab.__all__)


def test_the_asyncio_face_has_the_same_factories():
    assert set(trimtab.aio.__all__) == {"insecure_channel", "secure_channel"}
    assert all(hasattr(trimtab.aio, name) for name in trimtab.aio.__all__)


def test_the_version_is_that_of_the_package():
    assert trimtab.__version__.count(".") >= 2
