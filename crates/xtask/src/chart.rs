//! `make chart`: the Helm chart and the files in `deploy/` against Helm's own library, Kubernetes' schemas, Prometheus'
//! tool and the binary, without a cluster. The checks are `crates/xtask/chart/*.py`; this module starts them.

use std::path::Path;
use std::time::Duration;

use crate::{Tally, e2e, paths, process, python, setup};

const HELM: &str = "0.2.2";
const KUBERNETES: &str = "1.37.0";
const YAML: &str = "6.0.4";

const LIMIT: Duration = Duration::from_secs(120);

/// Runs all checks and counts them.
///
/// Errors: nothing to install from, or the binary does not compile.
pub(crate) fn run() -> Result<Tally, String> {
    setup::debian("prometheus", Path::new(setup::PROMTOOL))?;
    let packages = [
        format!("helm-python-sdk=={HELM}"),
        format!("kubernetes-validate=={KUBERNETES}"),
        format!("PyYAML=={YAML}"),
    ];
    let packages = packages.each_ref().map(String::as_str);
    let version = format!("{HELM}-{KUBERNETES}-{YAML}");
    let environment = python::environment("chart", &version, &packages)?;
    let binary = paths::roomcast()?;
    let root = paths::root();
    let mut command = process::tied_command(&environment.join("bin/python"), &[], &root);
    // No compiled files: nothing is written into the clone.
    command.arg("-B").arg(root.join("crates/xtask/chart/check.py"));
    command.arg(&root).arg(&binary).arg(setup::PROMTOOL);
    e2e::sum_of_program(&mut command, LIMIT)
}
