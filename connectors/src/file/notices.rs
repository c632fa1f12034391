//! Notices of the system (inotify) that followed files were written to.
//!
//! Promises: `wake` is called within [`PAUSE`] of when a file that is watched was written to, renamed or removed, or when a file
//! comes into its folder. One thread serves all files of the process; it starts with the first. Refuses file systems that have no notice
//! of what other machines write: their files are to be looked at now and again. No notice comes of writes through a memory map, nor where
//! the system drops notices: who reads a file looks at it once in a while besides.

use rustix::event::{self, PollFd, PollFlags};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use std::collections::{BTreeSet, HashMap};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use usher_core::lock::lock;

/// From one call of `wake` to the next for the same file or folder: a writer of many lines wakes its readers some hundred times a second.
const PAUSE: Duration = Duration::from_millis(2);
/// How long notices are gathered, so that a writer of many lines does not keep the thread busy.
const GATHER: Duration = Duration::from_micros(500);
/// Local file systems, by their number in `linux/magic.h`: ext2 to ext4, XFS, Btrfs, tmpfs, overlay, F2FS, ZFS, bcachefs.
const LOCAL: [u64; 8] =
    [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0x794C_7630, 0xF2F5_2010, 0x2FC1_2FC1, 0xCA45_1A4E];

/// Called from the thread of the notices.
pub(super) type Wake = Arc<dyn Fn() + Send + Sync>;

/// The notices of this process; none where the system has none to give.
static NOTICES: LazyLock<Option<Arc<Notices>>> = LazyLock::new(|| {
    let notices = Arc::new(Notices {
        queue: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?,
        wakes: Mutex::default(),
    });
    let of_thread = Arc::clone(&notices);
    thread::Builder::new().name("file notices".to_owned()).spawn(move || of_thread.run()).ok()?;
    Some(notices)
});

struct Notices {
    queue: OwnedFd,
    /// Who is woken, by the number of what is watched. A file that is watched twice has one number.
    wakes: Mutex<HashMap<i32, Vec<Wake>>>,
}

/// A file or folder that is watched until this is dropped.
pub(super) struct Watched {
    number: i32,
    wake: Wake,
}

impl Watched {
    /// Watches the file at a path; `None` if that can't be done.
    pub(super) fn file(path: &Path, wake: &Wake) -> Option<Watched> {
        let flags = WatchFlags::MODIFY | WatchFlags::ATTRIB | WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF;
        Watched::new(path, flags, wake)
    }

    /// Watches for files that come into the folder of a path; `None` if that can't be done.
    pub(super) fn folder_of(path: &Path, wake: &Wake) -> Option<Watched> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Watched::new(folder, WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR, wake)
    }

    fn new(path: &Path, flags: WatchFlags, wake: &Wake) -> Option<Watched> {
        let notices = NOTICES.as_ref()?;
        let system = rustix::fs::statfs(path).ok()?.f_type;
        if !LOCAL.iter().any(|local| i128::from(system) == i128::from(*local)) {
            return None;
        }
        // Nobody is called for a number between the system's answer and the entry.
        let mut wakes = lock(&notices.wakes);
        let number = inotify::add_watch(&notices.queue, path, flags).ok()?;
        wakes.entry(number).or_default().push(Arc::clone(wake));
        Some(Watched { number, wake: Arc::clone(wake) })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let Some(notices) = NOTICES.as_ref() else { return };
        let mut wakes = lock(&notices.wakes);
        let Some(of_number) = wakes.get_mut(&self.number) else { return };
        if let Some(place) = of_number.iter().position(|wake| Arc::ptr_eq(wake, &self.wake)) {
            of_number.swap_remove(place);
        }
        if of_number.is_empty() {
            wakes.remove(&self.number);
            // One whose file is gone is removed by the system.
            let _ = inotify::remove_watch(&notices.queue, self.number);
        }
    }
}

impl Notices {
    fn run(&self) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.queue, &mut buffer);
        // What was noticed and nobody was woken for, and who was woken a moment ago.
        let (mut noticed, mut woken) = (BTreeSet::new(), HashMap::<i32, Instant>::new());
        loop {
            match reader.next() {
                // The system has dropped notices: they may have been of any file.
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => {
                    noticed.extend(lock(&self.wakes).keys());
                    continue;
                }
                Ok(event) => {
                    noticed.insert(event.wd());
                    continue;
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {}
                Err(error) => return warn_of_end(error),
            }
            let now = Instant::now();
            woken.retain(|_, at| now < *at + PAUSE);
            let due: Vec<i32> = noticed.extract_if(.., |number| !woken.contains_key(number)).collect();
            woken.extend(due.iter().map(|number| (*number, now)));
            self.wake(&due);
            thread::sleep(GATHER);
            if noticed.is_empty()
                && let Err(error) = event::poll(&mut [PollFd::new(&self.queue, PollFlags::IN)], None)
                && error != Errno::INTR
            {
                return warn_of_end(error);
            }
        }
    }

    fn wake(&self, numbers: &[i32]) {
        let wakes = lock(&self.wakes);
        let woken: Vec<Wake> = numbers.iter().filter_map(|number| wakes.get(number)).flatten().cloned().collect();
        drop(wakes);
        woken.iter().for_each(|wake| wake());
    }
}

fn warn_of_end(error: Errno) {
    tracing::warn!("the system gives no more notices of files: {error}; they are looked at once a second");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::sync::mpsc::{Receiver, channel};

    fn waking() -> (Wake, Receiver<()>) {
        let (send, receive) = channel();
        let wake = move || {
            // Who waited may have what it waited for.
            let _ = send.send(());
        };
        (Arc::new(wake), receive)
    }

    fn is_woken(woken: &Receiver<()>) -> bool {
        woken.recv_timeout(Duration::from_secs(60)).is_ok()
    }

    #[test]
    fn a_file_that_is_written_to_renamed_or_removed_is_noticed_by_all_who_watch_it() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = folder.path().join("events.jsonl");
        let mut file = fs::File::create(&path).expect("the folder can be written");
        let ((wake, woken), (other, other_woken)) = (waking(), waking());
        let watched = Watched::file(&path, &wake).expect("a local file system");
        let twice = Watched::file(&path, &other).expect("a local file system");
        file.write_all(b"{}\n").expect("the file can be written");
        assert!(is_woken(&woken) && is_woken(&other_woken));
        drop(watched);
        fs::rename(&path, folder.path().join("events.1")).expect("the folder can be written");
        assert!(is_woken(&other_woken));
        // Nothing is called once it is not watched any more.
        while woken.try_recv().is_ok() {}
        fs::remove_file(folder.path().join("events.1")).expect("the folder can be written");
        drop(file);
        assert!(is_woken(&other_woken) && woken.try_recv().is_err());
        drop(twice);
    }

    #[test]
    fn a_file_that_comes_into_the_folder_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let (wake, woken) = waking();
        let path = folder.path().join("events.jsonl");
        assert!(Watched::file(&path, &wake).is_none(), "it is not there");
        let watched = Watched::folder_of(&path, &wake).expect("a local file system");
        fs::write(&path, "{}\n").expect("the folder can be written");
        assert!(is_woken(&woken));
        drop(watched);
    }
}
