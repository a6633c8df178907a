//! Bits and numbers of the kernel's interface (include/uapi), under its own names.

pub const EPERM: u16 = 1;
pub const ENOENT: u16 = 2;
pub const EINTR: u16 = 4;
pub const EBADF: u16 = 9;
pub const EAGAIN: u16 = 11;
pub const EACCES: u16 = 13;
pub const EEXIST: u16 = 17;
pub const EXDEV: u16 = 18;
pub const ENODEV: u16 = 19;
pub const ENOTDIR: u16 = 20;
pub const EINVAL: u16 = 22;
pub const ENAMETOOLONG: u16 = 36;
pub const ENOSYS: u16 = 38;
pub const ELOOP: u16 = 40;
pub const ETIMEDOUT: u16 = 110;
pub const ESTALE: u16 = 116;
pub const EDQUOT: u16 = 122;
pub const EKEYREVOKED: u16 = 128;
pub const EOPNOTSUPP: u16 = 95;

pub const AT_FDCWD: i32 = -100;
pub const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
pub const AT_EACCESS: u32 = 0x200;
pub const AT_EMPTY_PATH: u32 = 0x1000;
pub const AT_RECURSIVE: u32 = 0x8000;
pub const O_RDONLY: u32 = 0;
pub const O_WRONLY: u32 = 1;
pub const O_RDWR: u32 = 2;
pub const O_CREAT: u32 = 0o100;
pub const O_EXCL: u32 = 0o200;
pub const O_NOCTTY: u32 = 0o400;
pub const O_NONBLOCK: u32 = 0o4000;
#[cfg(target_arch = "x86_64")]
pub const O_DIRECTORY: u32 = 0o200000;
#[cfg(target_arch = "x86_64")]
pub const O_NOFOLLOW: u32 = 0o400000;
#[cfg(target_arch = "aarch64")]
pub const O_DIRECTORY: u32 = 0o40000;
#[cfg(target_arch = "aarch64")]
pub const O_NOFOLLOW: u32 = 0o100000;
pub const O_CLOEXEC: u32 = 0o2000000;
pub const O_PATH: u32 = 0o10000000;
pub const RESOLVE_NO_XDEV: u64 = 1;
pub const RESOLVE_NO_MAGICLINKS: u64 = 2;
pub const RESOLVE_NO_SYMLINKS: u64 = 4;
pub const RESOLVE_BENEATH: u64 = 8;
pub const RESOLVE_IN_ROOT: u64 = 16;

pub const S_IFMT: u32 = 0o170000;
pub const S_IFREG: u32 = 0o100000;
pub const S_IFDIR: u32 = 0o040000;
pub const S_IFLNK: u32 = 0o120000;
pub const S_IFCHR: u32 = 0o020000;
pub const S_IFBLK: u32 = 0o060000;
pub const S_IFIFO: u32 = 0o010000;
pub const S_IFSOCK: u32 = 0o140000;

pub const CLONE_NEWTIME: u32 = 0x80;
pub const CLONE_NEWNS: u32 = 0x2_0000;
pub const CLONE_NEWCGROUP: u32 = 0x200_0000;
pub const CLONE_NEWUTS: u32 = 0x400_0000;
pub const CLONE_NEWIPC: u32 = 0x800_0000;
pub const CLONE_NEWUSER: u32 = 0x1000_0000;
pub const CLONE_NEWPID: u32 = 0x2000_0000;
pub const CLONE_NEWNET: u32 = 0x4000_0000;
pub const CLONE_PIDFD: u64 = 0x1000;
pub const CLONE_PARENT: u64 = 0x8000;
pub const CLONE_PARENT_SETTID: u64 = 0x10_0000;
pub const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
pub const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

pub const MOUNT_ATTR_RDONLY: u32 = 0x1;
pub const MOUNT_ATTR_NOSUID: u32 = 0x2;
pub const MOUNT_ATTR_NODEV: u32 = 0x4;
pub const MOUNT_ATTR_NOEXEC: u32 = 0x8;
/// The atime settings are one field of three bits, with relatime as 0.
pub const MOUNT_ATTR_ATIME: u32 = 0x70;
pub const MOUNT_ATTR_NOATIME: u32 = 0x10;
pub const MOUNT_ATTR_STRICTATIME: u32 = 0x20;
pub const MOUNT_ATTR_NODIRATIME: u32 = 0x80;
pub const MOUNT_ATTR_IDMAP: u32 = 0x10_0000;
pub const MOUNT_ATTR_NOSYMFOLLOW: u32 = 0x20_0000;

pub const MS_REC: u32 = 0x4000;
pub const MS_UNBINDABLE: u32 = 1 << 17;
pub const MS_PRIVATE: u32 = 1 << 18;
pub const MS_SLAVE: u32 = 1 << 19;
pub const MS_SHARED: u32 = 1 << 20;
pub const MNT_DETACH: u32 = 2;

pub const OPEN_TREE_CLONE: u32 = 1;
pub const OPEN_TREE_CLOEXEC: u32 = O_CLOEXEC;
pub const PROC_SUPER_MAGIC: u64 = 0x9fa0;
pub const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;
pub const KEYCTL_JOIN_SESSION_KEYRING: u32 = 1;
