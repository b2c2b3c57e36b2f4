/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>
#include <linux/sockios.h>

#include <rte_common.h>

#include "main.h"
#include "thread.h"
#include "vhost/fds.h"

/*
 * Threads that close at once. One is enough as long as nothing blocks; each that blocks costs a
 * stack of its own. What comes when all of them are stuck waits, and so does the front end that
 * sent it.
 */
#define CLOSERS_MAX 64

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t work;
	STAILQ_HEAD(, fds_batch) queue;
	unsigned int waiting, threads, idle;
	int wake_fd;
} closers = { /* of the process: closing may take longer than the connection lasts */
	.mutex = PTHREAD_MUTEX_INITIALIZER,
	.work = PTHREAD_COND_INITIALIZER,
	.queue = STAILQ_HEAD_INITIALIZER(closers.queue),
};

static bool
is_eventfd(int fd)
{
	char link[32], target[32];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, target, sizeof(target));
	return n == (ssize_t)strlen("anon_inode:[eventfd]") &&
		memcmp(target, "anon_inode:[eventfd]", (size_t)n) == 0;
}

/*
 * Seals exist in tmpfs and hugetlbfs alone, and the kernel itself answers for them. For other files
 * statx() with AT_STATX_DONT_SYNC asks nobody either (FUSE and network file systems answer from
 * memory), and a device with a major number is a disk: FUSE, NFS and overlays of them have none.
 */
static bool
is_local_file(int fd)
{
	struct statx st;
	struct statfs fs;

	if (fcntl(fd, F_GET_SEALS) >= 0)
		return true;
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0)
		return false;
	return S_ISREG(st.stx_mode) && st.stx_dev_major != 0 && fstatfs(fd, &fs) == 0 &&
		fs.f_type != FUSE_SUPER_MAGIC;
}

enum fds_kind
fds_kind(int fd)
{
	if (is_eventfd(fd))
		return FDS_EVENTFD;
	return is_local_file(fd) ? FDS_MEMORY : FDS_OTHER;
}

int
fds_send(int sock, const void *buf, size_t len, const int *fd, int n, int flags)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = (void *)(uintptr_t)buf, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cmsg;
	ssize_t sent;

	if (n > 0) {
		memset(&control, 0, sizeof(control));
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fd, (size_t)n * sizeof(int));
	}
	do
		sent = sendmsg(sock, &msg, flags | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return -errno;
	return sent == (ssize_t)len ? 0 : -EIO;
}

static ssize_t
peek(int sock, void *buf, size_t len, void *control, size_t control_len, struct msghdr *msg)
{
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	ssize_t n;

	*msg = (struct msghdr){ .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
		.msg_controllen = control_len };
	n = recvmsg(sock, msg, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	return n < 0 ? -errno : n;
}

/* Get further references to the next descriptors in the queue. */
static ssize_t
peek_fds(int sock, void *buf, size_t len, struct fds_batch *batch)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(batch->fd))];
	} control;
	struct msghdr msg;
	struct cmsghdr *cmsg;
	ssize_t n = peek(sock, buf, len, &control, CMSG_LEN(sizeof(batch->fd)), &msg);

	if (n <= 0)
		return n;
	for (cmsg = CMSG_FIRSTHDR(&msg); cmsg != NULL; cmsg = CMSG_NXTHDR(&msg, cmsg)) {
		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		batch->n = (int)((cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(batch->fd, CMSG_DATA(cmsg), (size_t)batch->n * sizeof(int));
	}
	if (batch->n > FDS_MAX)
		return -EMSGSIZE;
	return msg.msg_flags & MSG_CTRUNC ? -EMFILE : n;
}

/*
 * Bytes that are received with too little room for their descriptors lose the rest, and this thread
 * would close it. So look first. Without room for any, the kernel says that there are some
 * (MSG_CTRUNC). Looking goes on to the first in the queue, which may belong to later bytes;
 * receiving does not. When these bytes' own are in hand already, what the kernel drops is
 * never the last reference.
 */
ssize_t
fds_receive(int sock, void *buf, size_t len, struct fds_batch *batch, bool *belong)
{
	struct msghdr msg;
	struct iovec iov = { .iov_base = buf };
	ssize_t n = peek(sock, buf, len, NULL, 0, &msg);

	batch->n = 0;
	*belong = true;
	if (n > 0 && msg.msg_flags & MSG_CTRUNC)
		n = peek_fds(sock, buf, len, batch);
	if (n <= 0)
		return n;
	iov.iov_len = (size_t)n;
	msg = (struct msghdr){ .msg_iov = &iov, .msg_iovlen = 1 };
	n = recvmsg(sock, &msg, MSG_DONTWAIT);
	*belong = msg.msg_flags & MSG_CTRUNC;
	return n < 0 ? -errno : n;
}

bool
fds_has_unread(int sock)
{
	int unread;

	return ioctl(sock, SIOCINQ, &unread) < 0 || unread > 0;
}

static void
close_all(struct fds_batch *batch)
{
	struct linger none = { .l_onoff = 0 };
	int i, wake_fd = closers.wake_fd;
	uint64_t one = 1;
	ssize_t ignored;

	for (i = 0; i < batch->n; i++) {
		/* Fails for what is not a socket. One that does not linger is closed at once. */
		setsockopt(batch->fd[i], SOL_SOCKET, SO_LINGER, &none, sizeof(none));
		close(batch->fd[i]);
	}
	__atomic_store_n(&batch->done, 1, __ATOMIC_RELEASE);
	ignored = write(wake_fd, &one, sizeof(one));
	RTE_SET_USED(ignored);
}

static void *
run_closer(void *arg)
{
	struct fds_batch *batch;

	for (;;) {
		pthread_mutex_lock(&closers.mutex);
		closers.idle++;
		while ((batch = STAILQ_FIRST(&closers.queue)) == NULL)
			pthread_cond_wait(&closers.work, &closers.mutex);
		STAILQ_REMOVE_HEAD(&closers.queue, link);
		closers.waiting--;
		closers.idle--;
		pthread_mutex_unlock(&closers.mutex);
		close_all(batch);
	}
	return arg;
}

void
fds_close_elsewhere(struct fds_batch *batch, int wake_fd)
{
	pthread_t thread;
	bool more;

	__atomic_store_n(&batch->done, 0, __ATOMIC_RELAXED);
	pthread_mutex_lock(&closers.mutex);
	closers.wake_fd = wake_fd;
	STAILQ_INSERT_TAIL(&closers.queue, batch, link);
	closers.waiting++;
	more = closers.waiting > closers.idle && closers.threads < CLOSERS_MAX;
	closers.threads += more;
	pthread_cond_signal(&closers.work);
	pthread_mutex_unlock(&closers.mutex);
	/* Without a thread of its own it waits for one that is busy now. */
	if (!more)
		return;
	if (start_control_thread(&thread, "closer", run_closer, NULL) == 0) {
		pthread_detach(thread);
		return;
	}
	pthread_mutex_lock(&closers.mutex);
	closers.threads--;
	pthread_mutex_unlock(&closers.mutex);
}
