//! Makes `proto/src/gen` from `proto/coretex`, with no tool but cargo's own: protox compiles, tonic-prost-build writes, rustfmt lays out.
//! In: the .proto files. Out: one Rust file per package and the descriptor set. Refuses: protos that do not compile.

use anyhow::{Context, Result, bail, ensure};
use prost::Message;
use prost_types::FileDescriptorSet;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

/// Packages that become Rust code. What they import is found in other crates.
const PACKAGES: &[&str] = &["coretex.v1"];
const DESCRIPTORS: &str = "coretex.bin";
const HINT: &str = "run `cargo run -p xtask -- codegen` and commit the result";

/// File name → content.
type Files = BTreeMap<String, Vec<u8>>;

pub(crate) fn run(args: &[String]) -> Result<()> {
    let check = match args {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => bail!("codegen takes only `--check`, got `{}`", args.join(" ")),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent directory")?;
    let committed = root.join("proto/src/gen");
    let fresh = generate(root)?;
    if check { compare(&committed, &fresh) } else { write(&committed, &fresh) }
}

fn generate(root: &Path) -> Result<Files> {
    let encoded = compile(&root.join("proto"))?;
    let set = FileDescriptorSet::decode(encoded.as_slice())?;

    let scratch = Scratch::new(&root.join("target"))?;
    tonic_prost_build::configure()
        .out_dir(&scratch.0)
        // `Connect` is one of our methods: no constructor of that name beside it.
        .build_transport(false)
        .bytes(".")
        .btree_map(".")
        // Its value is not printed: `proto/src/lib.rs` says how it is.
        .skip_debug(["coretex.v1.SecretValue"])
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        .compile_fds(set)
        .context("cannot generate Rust code")?;
    let wanted: Vec<String> = PACKAGES.iter().map(|package| format!("{package}.rs")).collect();
    format(root, &scratch.0, &wanted)?;

    let mut files = read(&scratch.0)?;
    files.retain(|name, _| wanted.contains(name));
    ensure!(files.len() == wanted.len(), "no code was generated for one of {PACKAGES:?}");
    files.insert(DESCRIPTORS.to_owned(), encoded);
    Ok(files)
}

/// Compiles all our packages, and keeps imports, options and comments: reflection shows them.
fn compile(proto: &Path) -> Result<Vec<u8>> {
    let mut sources = Vec::new();
    for package in PACKAGES {
        let dir = proto.join(package.replace('.', "/"));
        for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "proto") {
                sources.push(path);
            }
        }
    }
    sources.sort();
    let vendor = proto.join("vendor");
    let mut compiler = protox::Compiler::new([proto, vendor.as_path()])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(&sources).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    Ok(compiler.encode_file_descriptor_set())
}

fn format(root: &Path, dir: &Path, names: &[String]) -> Result<()> {
    let status = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(root)
        .args(names.iter().map(|name| dir.join(name)))
        .status()
        .context("cannot start rustfmt; `rustup component add rustfmt`")?;
    ensure!(status.success(), "rustfmt failed on the generated code");
    Ok(())
}

fn compare(committed: &Path, fresh: &Files) -> Result<()> {
    let old = read(committed)?;
    let mut stale = Vec::new();
    for (name, content) in fresh {
        match old.get(name) {
            None => stale.push(format!("{name}: missing")),
            Some(was) if was != content => stale.push(format!("{name}: {}", difference(was, content))),
            Some(_) => {}
        }
    }
    stale.extend(
        old.keys()
            .filter(|name| !fresh.contains_key(*name))
            .map(|name| format!("{name}: not generated any more")),
    );
    if stale.is_empty() {
        return Ok(());
    }
    bail!("{} is stale:\n  {}\n{HINT}", committed.display(), stale.join("\n  "))
}

/// The first difference, in one line.
fn difference(was: &[u8], is: &[u8]) -> String {
    let (Ok(was_text), Ok(is_text)) = (std::str::from_utf8(was), std::str::from_utf8(is)) else {
        return format!("{} bytes committed, {} generated, contents differ", was.len(), is.len());
    };
    let mut lines = was_text.lines().zip(is_text.lines()).enumerate();
    match lines.find(|(_, (a, b))| a != b) {
        Some((at, (a, b))) => format!("line {}\n    - {}\n    + {}", at + 1, a.trim(), b.trim()),
        None => {
            format!("{} lines committed, {} generated", was_text.lines().count(), is_text.lines().count())
        }
    }
}

fn write(committed: &Path, fresh: &Files) -> Result<()> {
    fs::create_dir_all(committed)?;
    for name in read(committed)?.keys().filter(|name| !fresh.contains_key(*name)) {
        fs::remove_file(committed.join(name))?;
    }
    for (name, content) in fresh {
        let path = committed.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn read(dir: &Path) -> Result<Files> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Files::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", dir.display())),
    };
    let mut files = Files::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().context("a file without a name")?.to_string_lossy().into_owned();
        files.insert(name, fs::read(&path)?);
    }
    Ok(files)
}

/// A directory that goes away with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path) -> Result<Self> {
        let dir = parent.join(format!("codegen-{}", std::process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing depends on it being gone: the next run uses another name.
        let _ = fs::remove_dir_all(&self.0);
    }
}
