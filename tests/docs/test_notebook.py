"""The example notebook runs from its first cell to its last in a real kernel, without a network."""

import os
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("altair")

ROOT = Path(__file__).resolve().parents[2]

# In the kernel's process: a connection that leaves this machine fails.
OFFLINE = """
import socket

connect = socket.socket.connect

def local(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise OSError(f"the notebook asks {address}")
    return connect(self, address)

socket.socket.connect = local
"""


@pytest.mark.slow
def test_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(ROOT / "examples" / "notebook.ipynb", as_version=4)
    nbformat.validate(notebook)
    # The kernel is this interpreter, whatever kernels the machine has, and keeps nothing in the user's home.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    notebook.cells.insert(0, nbformat.v4.new_code_cell(OFFLINE))
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.create_kernel_manager()
    client.km.kernel_spec.argv[0] = sys.executable
    client.execute()
    cells = {cell.id: cell for cell in notebook.cells}
    said = "".join(output.get("text", "") for output in cells["typed"].outputs)
    assert said.count("demo ") == 10
    assert "demo + demo-guard    8 turns" in said
    (table,) = cells["arrow"].outputs
    assert "pyarrow.Table" in table["data"]["text/plain"]
    (plot,) = [output for output in cells["chart"].outputs if output.output_type == "execute_result"]
    assert plot["data"]["image/svg+xml"].count("demo-guard") >= 1
    assert (tmp_path / "notebook.duckdb").exists()


def test_the_notebook_holds_no_outputs() -> None:
    notebook = nbformat.read(ROOT / "examples" / "notebook.ipynb", as_version=4)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
