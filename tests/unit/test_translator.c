/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From vhost-net ioctls to vhost-user messages. librte_vhost is played by a thread that notes the
 * requests it gets; the caller of the ioctls is this process.
 */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vhost.h>

#include "cuse/translator.h"
#include "vhost/vhost_user.h"

/* cuse/device.c has it, where that is linked. */
int log_type_cuse __attribute__((weak));

#define MEMORY_SIZE (1 << 20)
#define BASE 77 /* where the played librte_vhost says that a ring has stopped */

static struct {
	struct sockaddr_un name;
	int listener;
	pthread_t thread;
	pthread_mutex_t lock;
	char notes[512]; /* requests, as text: "NUM0 BASE0 ..." */
	struct vhost_vring_addr addr;
	uint32_t base[2];
} played = { .name = { .sun_family = AF_UNIX }, .lock = PTHREAD_MUTEX_INITIALIZER };

static struct translator *t;
static uint8_t *memory;
static int packet, event, memfd;

static void
note(const struct vhost_user_message *m, int nb_fds)
{
	static const char *const names[] = {
		[VHOST_USER_SET_FEATURES] = "FEATURES", [VHOST_USER_SET_MEM_TABLE] = "MEMORY",
		[VHOST_USER_SET_VRING_NUM] = "NUM", [VHOST_USER_SET_VRING_ADDR] = "ADDR",
		[VHOST_USER_SET_VRING_BASE] = "BASE", [VHOST_USER_GET_VRING_BASE] = "STOP",
		[VHOST_USER_SET_VRING_KICK] = "KICK", [VHOST_USER_SET_VRING_CALL] = "CALL",
		[VHOST_USER_SET_VRING_ENABLE] = "ENABLE",
	};
	const char *name = m->request < RTE_DIM(names) ? names[m->request] : NULL;
	size_t n = strlen(played.notes);
	char text[48] = "";

	if (name == NULL)
		return;
	if (m->request == VHOST_USER_SET_FEATURES || m->request == VHOST_USER_SET_MEM_TABLE)
		snprintf(text, sizeof(text), "%s ", name);
	else if (m->request == VHOST_USER_SET_VRING_KICK || m->request == VHOST_USER_SET_VRING_CALL)
		snprintf(text, sizeof(text), "%s%u%s ", name,
			m->payload.state.index & VHOST_USER_VRING, nb_fds > 0 ? "" : "-");
	else if (m->request == VHOST_USER_SET_VRING_ENABLE)
		snprintf(text, sizeof(text), "%s%u=%u ", name, m->payload.state.index,
			m->payload.state.num);
	else
		snprintf(text, sizeof(text), "%s%u ", name, m->payload.state.index);
	snprintf(played.notes + n, sizeof(played.notes) - n, "%s", text);
	if (m->request == VHOST_USER_SET_VRING_ADDR)
		memcpy(&played.addr, &m->payload.address, sizeof(played.addr));
	if (m->request == VHOST_USER_SET_VRING_BASE)
		played.base[m->payload.state.index] = m->payload.state.num;
}

/* Read one message and close its descriptors. Returns their number, or -1 at the end. */
static int
read_message(int sock, struct vhost_user_message *m)
{
	char control[CMSG_SPACE(8 * sizeof(int))];
	struct iovec iov = { .iov_base = m, .iov_len = VHOST_USER_HEADER };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
		.msg_controllen = sizeof(control) };
	const struct cmsghdr *c;
	int fds[8], n = 0, i;

	memset(m, 0, sizeof(*m));
	if (recvmsg(sock, &msg, MSG_WAITALL) != (ssize_t)VHOST_USER_HEADER || (m->size > 0 &&
			recv(sock, &m->payload, m->size, MSG_WAITALL) != (ssize_t)m->size))
		return -1;
	c = CMSG_FIRSTHDR(&msg);
	if (c != NULL) {
		n = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), (size_t)n * sizeof(int));
	}
	for (i = 0; i < n; i++)
		close(fds[i]);
	return n;
}

static void
serve_connection(int sock)
{
	struct vhost_user_message m;
	int n;

	while ((n = read_message(sock, &m)) >= 0) {
		pthread_mutex_lock(&played.lock);
		note(&m, n);
		pthread_mutex_unlock(&played.lock);
		m.flags |= VHOST_USER_REPLY;
		if (m.request == VHOST_USER_GET_VRING_BASE) {
			m.payload.state.num = BASE;
		} else {
			m.size = sizeof(m.payload.u64);
			m.payload.u64 = m.request == VHOST_USER_GET_FEATURES ||
				m.request == VHOST_USER_GET_PROTOCOL_FEATURES ? UINT64_MAX : 0;
		}
		if (send(sock, &m, VHOST_USER_HEADER + m.size, MSG_NOSIGNAL) < 0)
			break;
	}
	close(sock);
}

static void *
play(void *arg)
{
	int sock;

	while ((sock = accept(played.listener, NULL, NULL)) >= 0)
		serve_connection(sock);
	return arg;
}

static int
setup(void **state)
{
	char path[] = "/tmp/translator-XXXXXX";

	(void)state;
	if (mkdtemp(path) == NULL)
		return -1;
	snprintf(played.name.sun_path, sizeof(played.name.sun_path), "%s/sock", path);
	played.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	memfd = memfd_create("guest", MFD_CLOEXEC);
	event = eventfd(0, EFD_CLOEXEC);
	packet = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (ftruncate(memfd, MEMORY_SIZE) < 0 || packet < 0 ||
			bind(played.listener, (struct sockaddr *)&played.name,
				sizeof(played.name)) < 0 ||
			listen(played.listener, 1) < 0)
		return -1;
	memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	if (pthread_create(&played.thread, NULL, play, NULL) != 0)
		return -1;
	return translator_create(played.name.sun_path, &t);
}

static int
teardown(void **state)
{
	(void)state;
	translator_destroy(t);
	shutdown(played.listener, SHUT_RDWR);
	pthread_join(played.thread, NULL);
	close(played.listener);
	unlink(played.name.sun_path);
	*strrchr(played.name.sun_path, '/') = '\0';
	rmdir(played.name.sun_path);
	munmap(memory, MEMORY_SIZE);
	close(memfd);
	close(event);
	close(packet);
	return 0;
}

static int
call(unsigned int cmd, const void *in)
{
	uint64_t out[4];

	return translator_ioctl(t, getpid(), cmd, in, out);
}

static int
ring(unsigned int cmd, unsigned int index, unsigned int value)
{
	struct vhost_vring_state s = { .index = index, .num = value };

	return call(cmd, &s);
}

static int
address(unsigned int index, uint32_t flags, uint64_t used)
{
	struct vhost_vring_addr a = { .index = index, .flags = flags,
		.desc_user_addr = (uintptr_t)memory, .avail_user_addr = (uintptr_t)memory + 0x1000,
		.used_user_addr = (uintptr_t)memory + used, .log_guest_addr = 4 };

	return call(VHOST_SET_VRING_ADDR, &a);
}

static int
table(uint32_t nregions, uint32_t padding)
{
	uint8_t bytes[sizeof(struct vhost_memory) + sizeof(struct vhost_memory_region)] = { 0 };
	struct vhost_memory *m = (void *)bytes;

	m->nregions = nregions;
	m->padding = padding;
	m->regions[0].userspace_addr = (uintptr_t)memory;
	m->regions[0].memory_size = MEMORY_SIZE;
	return call(VHOST_SET_MEM_TABLE, m);
}

/* What was sent to librte_vhost since this was last asked. */
static const char *
sent(void)
{
	static char notes[sizeof(played.notes)];

	pthread_mutex_lock(&played.lock);
	snprintf(notes, sizeof(notes), "%s", played.notes);
	played.notes[0] = '\0';
	pthread_mutex_unlock(&played.lock);
	return notes;
}

/* Nothing of a ring is sent before it has a backend, in whatever order it was set up. */
static void
test_a_ring_is_told_with_its_backend(void **state)
{
	(void)state;
	assert_int_equal(ring(VHOST_SET_VRING_NUM, 1, 8), -EPERM);
	assert_int_equal(call(VHOST_SET_OWNER, NULL), 0);
	assert_int_equal(ring(VHOST_SET_VRING_KICK, 1, (unsigned int)event), 0);
	assert_int_equal(address(1, 1, 0x2000), 0);
	assert_int_equal(ring(VHOST_SET_VRING_BASE, 1, 5), 0);
	assert_int_equal(ring(VHOST_SET_VRING_NUM, 1, 8), 0);
	assert_int_equal(ring(VHOST_NET_SET_BACKEND, 1, (unsigned int)packet), -EFAULT);
	assert_string_equal(sent(), "");
	assert_int_equal(table(1, 0), 0);
	assert_int_equal(ring(VHOST_NET_SET_BACKEND, 1, (unsigned int)packet), 0);
	assert_string_equal(sent(), "MEMORY NUM1 BASE1 ADDR1 CALL1- KICK1 ENABLE1=1 ");
	assert_int_equal(played.base[1], 5);
	/* its dirty log is not asked for: nobody has one */
	assert_int_equal(played.addr.flags, 0);
	assert_int_equal(played.addr.log_guest_addr, 0);
}

/* Without a backend it rests; once librte_vhost has stopped it, all is sent again. */
static void
test_a_ring_goes_on_where_it_was(void **state)
{
	(void)state;
	assert_int_equal(ring(VHOST_SET_VRING_NUM, 1, 16), -EBUSY);
	assert_int_equal(ring(VHOST_NET_SET_BACKEND, 1, (unsigned int)-1), 0);
	assert_int_equal(ring(VHOST_NET_SET_BACKEND, 1, (unsigned int)packet), 0);
	assert_string_equal(sent(), "ENABLE1=0 ENABLE1=1 ");
	assert_int_equal(ring(VHOST_NET_SET_BACKEND, 1, (unsigned int)-1), 0);
	assert_int_equal(ring(VHOST_GET_VRING_BASE, 1, 0), 0);
	assert_string_equal(sent(), "ENABLE1=0 STOP1 ENABLE1=0 ");
	assert_int_equal(ring(VHOST_NET_SET_BACKEND, 1, (unsigned int)packet), 0);
	assert_string_equal(sent(), "NUM1 BASE1 ADDR1 CALL1- KICK1 ENABLE1=1 ");
	assert_int_equal(played.base[1], BASE);
	/* a table without regions takes it away, with regions it is back */
	assert_int_equal(table(0, 0), 0);
	assert_string_equal(sent(), "STOP1 ENABLE1=0 ");
	assert_int_equal(table(1, 0), 0);
	assert_string_equal(sent(), "MEMORY NUM1 BASE1 ADDR1 CALL1- KICK1 ENABLE1=1 ");
}

static void
test_refusals_are_the_kernels(void **state)
{
	int linger[2];

	(void)state;
	sent();
	assert_int_equal(table(1, 1), -EOPNOTSUPP);
	assert_int_equal(table(65, 0), -E2BIG);
	assert_int_equal(address(0, 2, 0x2000), -EOPNOTSUPP);
	assert_int_equal(address(0, 0, 0x2002), -EINVAL);
	assert_int_equal(ring(VHOST_SET_VRING_CALL, 0, (unsigned int)-1), 0);
	assert_int_equal(ring(VHOST_SET_VRING_CALL, 0, (unsigned int)packet), -EINVAL);
	assert_int_equal(ring(VHOST_SET_VRING_CALL, 0, 999), -EBADF);
	assert_int_equal(ring(VHOST_NET_SET_BACKEND, 0, (unsigned int)event), -ENOTSOCK);
	assert_int_equal(ring(VHOST_NET_SET_BACKEND, 0, (unsigned int)memfd), -ENOTSOCK);
	assert_int_equal(ring(VHOST_NET_SET_BACKEND, 0, 999), -ENOTSOCK);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, linger), 0);
	assert_int_equal(ring(VHOST_NET_SET_BACKEND, 0, (unsigned int)linger[0]), -ENOTSOCK);
	close(linger[0]);
	close(linger[1]);
	assert_int_equal(ring(VHOST_NET_SET_BACKEND, 0, (unsigned int)packet), -EFAULT);
	assert_int_equal(ring(0x4008af13, 0, 0), -ENOTTY);
	assert_int_equal(ring(0x4008af13, 2, 0), -ENOBUFS);
	assert_string_equal(sent(), "");
}

/* How much of the caller's memory an ioctl reads, which the kernel is told step by step. */
static void
test_sizes(void **state)
{
	struct vhost_memory header = { .nregions = 3 };
	size_t in, out;

	(void)state;
	translator_sizes(VHOST_SET_MEM_TABLE, NULL, 0, &in, &out);
	assert_true(in == sizeof(header) && out == 0);
	translator_sizes(VHOST_SET_MEM_TABLE, &header, sizeof(header), &in, &out);
	assert_int_equal(in, sizeof(header) + 3 * sizeof(struct vhost_memory_region));
	header.nregions = UINT32_MAX; /* refused, without its regions */
	translator_sizes(VHOST_SET_MEM_TABLE, &header, sizeof(header), &in, &out);
	assert_int_equal(in, sizeof(header));
	translator_sizes(VHOST_GET_VRING_BASE, NULL, 0, &in, &out);
	assert_true(in == 8 && out == 8);
	translator_sizes(VHOST_GET_VRING_BUSYLOOP_TIMEOUT, NULL, 0, &in, &out);
	assert_true(in == 8 && out == 8);
	translator_sizes(VHOST_RESET_OWNER, NULL, 0, &in, &out);
	assert_true(in == 0 && out == 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_ring_is_told_with_its_backend),
		cmocka_unit_test(test_a_ring_goes_on_where_it_was),
		cmocka_unit_test(test_refusals_are_the_kernels),
		cmocka_unit_test(test_sizes),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
