//! What the control groups of this process allow it.

use std::fs;
use std::path::{Path, PathBuf};

/// The root of version 2, in which those of version 1 have a folder for each controller.
const ROOT: &str = "/sys/fs/cgroup";

/// The least that a control group of this process or one above it allows of what `controller`
/// distributes. `v2` and `v1` read that from the folder of a group of their version.
pub(super) fn least<T: Ord>(
    controller: &str,
    v2: impl Fn(&Path) -> Option<T>,
    v1: impl Fn(&Path) -> Option<T>,
) -> Option<T> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let of_v2 = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let of_v1 = groups.lines().find_map(|line| path_v1(line, controller));
    let least_v2 = of_v2.and_then(|path| lowest(ROOT, path, v2));
    let least_v1 = of_v1.and_then(|path| lowest(&format!("{ROOT}/{controller}"), path, v1));
    least_v2.into_iter().chain(least_v1).min()
}

/// A number that is all that is in a file of a group; none if there is no limit.
pub(super) fn number(folder: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok()
}

/// The group of version 1 that a line such as `4:cpu,cpuacct:/a/b` names for the controller.
fn path_v1<'a>(line: &'a str, controller: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    controllers.split(',').any(|one| one == controller).then_some(path)
}

/// The lowest limit in the folders from `path` up to `root`. In a container the path may be that of
/// the host, of which only the root is seen.
fn lowest<T: Ord>(root: &str, path: &str, read: impl Fn(&Path) -> Option<T>) -> Option<T> {
    let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
    let folders = ends.map(|end| PathBuf::from(format!("{root}{}", &path[..end])));
    folders.filter_map(|folder| read(&folder)).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_on_the_way_up_counts() {
        let root = std::env::temp_dir().join(format!("ringmq-cgroup-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            fs::create_dir_all(root.join(path)).unwrap();
            fs::write(root.join(path).join("memory.max"), text).unwrap();
        };
        write("", "max\n");
        write("a", "5000\n");
        write("a/b", "7000\n");
        write("c", "max\n");
        let name = root.to_str().unwrap();
        let found = ["/a/b", "/a", "/c", "/", "/not/seen"]
            .map(|path| lowest(name, path, |folder| number(folder, "memory.max")));
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(found, [Some(5000), Some(5000), None, None, None]);
    }

    #[test]
    fn a_group_of_version_1_is_named_by_its_controllers() {
        assert_eq!(path_v1("4:cpu,cpuacct:/a/b", "cpu"), Some("/a/b"));
        assert_eq!(path_v1("4:cpuset:/a/b", "cpu"), None);
    }
}
