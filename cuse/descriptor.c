/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/if_tun.h>
#include <linux/major.h>

#include "cuse/descriptor.h"
#include "eventfd_link/eventfd_link.h"

#define MODULE_DEVICE "/dev/eventfd-link"

/* The kernel's Documentation/admin-guide/devices.txt: /dev/net/tun */
#define TUN_MINOR 200

/*
 * Descriptors of the wrong type whose close() may block at one time, each in a thread of its own.
 */
#define CLOSING_MAX 8

static atomic_uint closing;

static int module_fd = -1;

pid_t
descriptor_process(pid_t thread)
{
	char path[32], line[128];
	pid_t process = -ESRCH;
	int tgid;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", thread);
	f = fopen(path, "re");
	if (f == NULL)
		return -ESRCH;
	while (fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "Tgid: %d", &tgid) == 1) {
			process = tgid;
			break;
		}
	}
	fclose(f);
	return process;
}

int
descriptor_use_module(void)
{
	module_fd = open(MODULE_DEVICE, O_RDWR | O_CLOEXEC);
	return module_fd < 0 ? -errno : 0;
}

void
descriptor_release_module(void)
{
	if (module_fd >= 0)
		close(module_fd);
	module_fd = -1;
}

/* Whether a character device is one of the macvtap or ipvtap driver, whose numbers are dynamic. */
static bool
is_macvtap(unsigned int major)
{
	char line[64], name[16];
	bool found = false;
	unsigned int n;
	FILE *f = fopen("/proc/devices", "re");

	if (f == NULL)
		return false;
	while (!found && fgets(line, sizeof(line), f) != NULL)
		found = sscanf(line, "%u %15s", &n, name) == 2 && n == major &&
			(strcmp(name, "macvtap") == 0 || strcmp(name, "ipvtap") == 0);
	fclose(f);
	return found;
}

/* The type of what a link below /proc/PID/fd leads to. No file system is asked: it might block. */
static enum descriptor_type
type_of(const char *link)
{
	static const char eventfd[] = "anon_inode:[eventfd]", sock[] = "socket:[";
	char target[sizeof(eventfd) + 1];
	ssize_t n = readlink(link, target, sizeof(target));
	struct statx st;

	if (n == sizeof(eventfd) - 1 && memcmp(target, eventfd, sizeof(eventfd) - 1) == 0)
		return DESCRIPTOR_EVENTFD;
	if (n >= (ssize_t)sizeof(sock) - 1 && memcmp(target, sock, sizeof(sock) - 1) == 0)
		return DESCRIPTOR_SOCKET;
	if (statx(AT_FDCWD, link, AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0 ||
			!S_ISCHR(st.stx_mode))
		return DESCRIPTOR_OTHER;
	if (st.stx_rdev_major == MISC_MAJOR && st.stx_rdev_minor == TUN_MINOR)
		return DESCRIPTOR_TAP;
	return is_macvtap(st.stx_rdev_major) ? DESCRIPTOR_TAP : DESCRIPTOR_OTHER;
}

static int
take_by_module(pid_t process, int fd)
{
	struct eventfd_copy2 copy = { .fd = (unsigned int)fd, .pid = process, .flags = O_CLOEXEC };
	int own = ioctl(module_fd, EVENTFD_COPY2, &copy);

	return own < 0 ? -errno : own;
}

static int
take(pid_t process, int fd)
{
	int pidfd, own;

	if (module_fd >= 0)
		return take_by_module(process, fd);
	pidfd = (int)syscall(SYS_pidfd_open, process, 0);
	if (pidfd < 0)
		return -errno;
	own = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	if (own < 0)
		own = -errno;
	close(pidfd);
	return own;
}

static void *
close_and_exit(void *arg)
{
	close((int)(intptr_t)arg);
	atomic_fetch_sub(&closing, 1);
	return NULL;
}

/*
 * Close a descriptor that turned out to be of another type: a socket that lingers or a file of a
 * FUSE file system can block in close(), so a thread of its own does it.
 */
static void
close_elsewhere(int fd)
{
	struct linger no = { 0 };
	pthread_t thread;

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &no, sizeof(no));
	atomic_fetch_add(&closing, 1);
	if (pthread_create(&thread, NULL, close_and_exit, (void *)(intptr_t)fd) == 0)
		pthread_detach(thread);
	else
		close_and_exit((void *)(intptr_t)fd);
}

int
descriptor_take(pid_t process, int fd, unsigned int types, enum descriptor_type *type)
{
	struct stat st;
	char link[48];
	int own;

	/* The caller can exchange the descriptor after this, so the copy is looked at as well. */
	snprintf(link, sizeof(link), "/proc/%d/fd/%d", process, fd);
	if (fd < 0 || lstat(link, &st) < 0)
		return fd < 0 || errno == ENOENT ? -EBADF : -errno;
	if (!(types & type_of(link)))
		return -EINVAL;
	if (atomic_load(&closing) >= CLOSING_MAX)
		return -EBUSY;
	own = take(process, fd);
	if (own < 0)
		return own;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", own);
	*type = type_of(link);
	if (types & *type && !(fcntl(own, F_GETFL) & O_PATH))
		return own;
	close_elsewhere(own);
	return types & *type ? -EBADF : -EINVAL;
}

int
descriptor_take_eventfd(pid_t process, int fd)
{
	enum descriptor_type type;

	return descriptor_take(process, fd, DESCRIPTOR_EVENTFD, &type);
}

static bool
is_raw_packet_socket(int fd)
{
	int type = 0, domain = 0;
	socklen_t len = sizeof(type);

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_RAW &&
		getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_PACKET;
}

int
descriptor_check_backend(pid_t process, int fd, char name[IFNAMSIZ])
{
	struct pollfd pfd = { 0 };
	struct ifreq ifr = { 0 };
	enum descriptor_type type;
	int ret = 0;

	pfd.fd = descriptor_take(process, fd, DESCRIPTOR_TAP | DESCRIPTOR_SOCKET, &type);
	if (pfd.fd < 0)
		return pfd.fd == -EBADF || pfd.fd == -EINVAL ? -ENOTSOCK : pfd.fd;
	if (type == DESCRIPTOR_SOCKET && !is_raw_packet_socket(pfd.fd)) {
		close_elsewhere(pfd.fd);
		return -ENOTSOCK;
	}
	/* The kernel begins to poll it, which fails for a tap without an interface. */
	if (poll(&pfd, 1, 0) < 0 || pfd.revents & POLLERR)
		ret = -EINVAL;
	snprintf(name, IFNAMSIZ, "%s", "packet socket");
	if (type == DESCRIPTOR_TAP && ioctl(pfd.fd, TUNGETIFF, &ifr) == 0)
		snprintf(name, IFNAMSIZ, "%.*s", IFNAMSIZ - 1, ifr.ifr_name);
	close(pfd.fd);
	return ret;
}
