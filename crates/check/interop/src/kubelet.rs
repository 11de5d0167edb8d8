//! A supervisor that plays the kubelet on a made-up host: it starts what lies in the
//! folder of static pods, and ends what is no longer there.
//!
//! It reads manifests as kubeadm writes them (one block style, nothing else of YAML), runs
//! each container as a process of this machine, and has host folders in place of mounts.
//! Our own programs are found on the path, as in an image.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::our;

/// Between two looks at the folder.
const TICK: Duration = Duration::from_millis(20);
/// Where a host has its static pods.
const MANIFESTS: &str = "etc/kubernetes/manifests";

/// A host's kubelet at work; all its containers end with it.
pub struct Kubelet {
    quit: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    folder: PathBuf,
}

impl Kubelet {
    /// Watches `ROOT/etc/kubernetes/manifests`; its own files (logs, what runs) are in
    /// `folder`, which is made.
    ///
    /// # Panics
    /// When the folder cannot be made.
    pub fn start(root: &Path, folder: &Path) -> Kubelet {
        fs::create_dir_all(folder.join("running")).expect("a folder");
        let (quit, quits) = channel();
        let host = Host {
            root: root.to_owned(),
            folder: folder.to_owned(),
            pods: BTreeMap::new(),
            ending: Vec::new(),
        };
        let thread = std::thread::spawn(move || host.run(&quits));
        Kubelet { quit: Some(quit), thread: Some(thread), folder: folder.to_owned() }
    }

    /// The process of a running container of this name.
    pub fn pid(&self, container: &str) -> Option<u32> {
        fs::read_to_string(self.running().join(container)).ok()?.trim().parse().ok()
    }

    /// What a container of this name has written.
    pub fn log(&self, container: &str) -> String {
        fs::read_to_string(self.folder.join(format!("{container}.log"))).unwrap_or_default()
    }

    /// A program that answers `ps [--label io.kubernetes.container.name=NAME] -q` from
    /// what runs here.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn crictl(&self) -> PathBuf {
        let script = format!(
            "#!/bin/sh\nname='*'\nfor word; do case $word in\n\
             io.kubernetes.container.name=*) name=${{word#*=}} ;;\nesac; done\n\
             cd '{}' || exit 1\nfor file in $name; do\n\
             [ ! -e \"$file\" ] || cat \"$file\" 2>/dev/null || true\ndone\n",
            self.running().display()
        );
        program(&self.folder.join("crictl"), &script)
    }

    fn running(&self) -> PathBuf {
        self.folder.join("running")
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.quit.take();
        if let Some(thread) = self.thread.take() {
            // Its panic is another test's report already.
            let _ = thread.join();
        }
    }
}

/// Writes a program there.
///
/// # Panics
/// When the file system refuses.
pub fn program(path: &Path, script: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, script).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("its mode");
    path.to_owned()
}

/// A container's process.
struct Running {
    name: String,
    child: Child,
}

/// What the thread has.
struct Host {
    root: PathBuf,
    folder: PathBuf,
    /// By the manifest's file name: its text and its processes.
    pods: BTreeMap<String, (String, Vec<Running>)>,
    /// Told to end.
    ending: Vec<Running>,
}

impl Host {
    fn run(mut self, quits: &Receiver<()>) {
        while let Err(RecvTimeoutError::Timeout) = quits.recv_timeout(TICK) {
            self.tick();
        }
        for mut running in std::mem::take(&mut self.pods).into_values().flat_map(|(_, all)| all) {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
        for running in &mut self.ending {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }

    /// What runs becomes what lies there; one step of it.
    fn tick(&mut self) {
        let wanted = manifests(&self.root.join(MANIFESTS));
        let gone: Vec<String> = self
            .pods
            .iter()
            .filter(|(name, (text, _))| wanted.get(*name) != Some(text))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            let (_, containers) = self.pods.remove(&name).expect("it was listed just now");
            for running in containers {
                let pid = running.child.id().to_string();
                // Gone already is as good.
                let _ = Command::new("kill").args(["-TERM", &pid]).status();
                self.ending.push(running);
            }
        }
        let running = self.folder.join("running");
        self.ending.retain_mut(|ended| {
            let lives = matches!(ended.child.try_wait(), Ok(None));
            if !lives {
                let _ = fs::remove_file(running.join(&ended.name));
            }
            lives
        });
        for (name, text) in wanted {
            let pod = Pod::read(&text);
            // A former container of the name ends first.
            let busy = |c: &Container| self.ending.iter().any(|ended| ended.name == c.name);
            if !self.pods.contains_key(&name) && pod.containers.iter().any(busy) {
                continue;
            }
            let mut all = self.pods.remove(&name).map_or_else(Vec::new, |(_, all)| all);
            all.retain_mut(|container| matches!(container.child.try_wait(), Ok(None)));
            for container in &pod.containers {
                if !all.iter().any(|running| running.name == container.name) {
                    all.push(self.start(container, &pod.folders));
                }
            }
            self.pods.insert(name, (text, all));
        }
    }

    fn start(&self, container: &Container, folders: &BTreeMap<String, String>) -> Running {
        let mounts: Vec<(String, String)> = container
            .mounts
            .iter()
            .filter_map(|(path, volume)| {
                let folder = folders.get(volume)?;
                Some((path.clone(), format!("{}{folder}", self.root.display())))
            })
            .collect();
        let mut words = container.command.iter().map(|word| mapped(word, &mounts));
        let programs = our("etcd").parent().expect("a program lies in a folder").to_owned();
        let search = std::env::var("PATH").unwrap_or_default();
        let log = self.folder.join(format!("{}.log", container.name));
        let log = fs::OpenOptions::new().create(true).append(true).open(log).expect("a log");
        let mut first = words.next().expect("a command");
        if programs.join(&first).is_file() {
            first = programs.join(&first).display().to_string();
        }
        let child = Command::new(&first)
            .args(words)
            .env("PATH", format!("{}:{search}", programs.display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn();
        let child = child.unwrap_or_else(|e| panic!("{first}: {e}"));
        let file = self.folder.join("running").join(&container.name);
        fs::write(file, format!("{}\n", child.id())).expect("a file");
        Running { name: container.name.clone(), child }
    }
}

/// The manifests by name; a file that goes away meanwhile is none.
fn manifests(folder: &Path) -> BTreeMap<String, String> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let named = files.map(|file| (file.file_name().to_string_lossy().into_owned(), file.path()));
    named
        .filter(|(name, _)| name.ends_with(".yaml") && !name.starts_with('.'))
        .filter_map(|(name, path)| Some((name, fs::read_to_string(path).ok()?)))
        .collect()
}

#[derive(Debug, Default)]
struct Container {
    name: String,
    command: Vec<String>,
    /// Path in the container, name of the volume.
    mounts: Vec<(String, String)>,
}

#[derive(Debug, Default)]
struct Pod {
    containers: Vec<Container>,
    /// Path on the host by the name of the volume.
    folders: BTreeMap<String, String>,
}

impl Pod {
    fn read(text: &str) -> Pod {
        let mut pod = Pod::default();
        let (mut part, mut list, mut path, mut block) = ("", "", "", false);
        for line in text.lines() {
            let inner = line.strip_prefix("    ").filter(|rest| !rest.starts_with(' '));
            if let Some(rest) = line
                .strip_prefix("  ")
                .filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
            {
                (part, list, block) = (rest, "", false);
            } else if part == "containers:" {
                if let Some(name) = line.strip_prefix("  - name: ") {
                    pod.containers
                        .push(Container { name: name.to_owned(), ..Container::default() });
                    (list, block) = ("", false);
                    continue;
                }
                let Some(container) = pod.containers.last_mut() else { continue };
                match inner.map(|rest| rest.strip_prefix("- ").ok_or(rest)) {
                    Some(Ok("|")) if list == "command:" => {
                        block = true;
                        container.command.push(String::new());
                    }
                    Some(Ok(word)) if list == "command:" => container.command.push(word.to_owned()),
                    Some(Ok(item)) if list == "volumeMounts:" => {
                        path = item.strip_prefix("mountPath: ").unwrap_or_default();
                    }
                    Some(Ok(_)) => {}
                    Some(Err(key)) => (list, block) = (key, false),
                    None if block => {
                        let word = container.command.last_mut().expect("the block's own");
                        word.push_str(line.strip_prefix("      ").unwrap_or_default());
                        word.push('\n');
                    }
                    None => {
                        if let Some(name) =
                            line.strip_prefix("      name: ").filter(|_| list == "volumeMounts:")
                        {
                            container.mounts.push((path.to_owned(), name.to_owned()));
                        }
                    }
                }
            } else if part == "volumes:" {
                if let Some(host) = line.strip_prefix("      path: ") {
                    path = host;
                } else if let Some(name) = line.strip_prefix("    name: ") {
                    pod.folders.insert(name.to_owned(), path.to_owned());
                }
            }
        }
        pod
    }
}

/// The text with the host's folders in place of the mounts.
fn mapped(text: &str, mounts: &[(String, String)]) -> String {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let whole =
            |path: &str| rest.strip_prefix(path).is_some_and(|after| !after.starts_with(is_name));
        let mount = mounts.iter().find(|(path, _)| whole(path));
        if let Some((path, host)) = mount.filter(|_| !out.ends_with(is_name)) {
            out.push_str(host);
            rest = &rest[path.len()..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Pod, mapped};

    #[test]
    fn manifests_are_read_as_they_are_shipped() {
        let pod = Pod::read(include_str!("../../../../deploy/kubeadm-etcd.yaml"));
        let etcd = &pod.containers[0];
        assert_eq!((pod.containers.len(), etcd.name.as_str()), (1, "etcd"));
        assert_eq!(etcd.command[0], "etcd");
        assert!(etcd.command.iter().skip(1).all(|word| word.starts_with("--")), "{etcd:?}");
        assert_eq!(etcd.mounts[0], ("/var/lib/etcd".to_owned(), "etcd-data".to_owned()));
        assert_eq!(pod.folders["etcd-data"], "/var/lib/etcd");
        let pod = Pod::read(include_str!("../../../../deploy/restore-etcd-pod.yaml"));
        let command = &pod.containers[0].command;
        assert_eq!(command[..2], ["/bin/sh", "-c"]);
        assert!(command[2].starts_with("set -eu\n") && command[2].ends_with("peer.key\n"));
        assert_eq!(pod.containers[0].mounts.len(), 3);
    }

    #[test]
    fn only_whole_paths_are_mapped() {
        let mounts =
            [("/a".to_owned(), "/host/a".to_owned()), ("/a-b".to_owned(), "/c".to_owned())];
        assert_eq!(
            mapped("--x=/a /a/y /a-b/z /ab q/a", &mounts),
            "--x=/host/a /host/a/y /c/z /ab q/a"
        );
    }
}
