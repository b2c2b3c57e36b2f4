/* SPDX-License-Identifier: BSD-3-Clause */
/* Notifications: by which means, and when a driver wants one. The linker wraps one call. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <rte_malloc.h>

#include "vhost/vring.h"
#include "unit.h"

#define FULL (UINT64_MAX - 1) /* a write(2) waits until it is less: eventfd(2) */
#define RING 5 /* packed rings have any size */

static bool without_aio;
static int contexts; /* of the kernel's that there are */

long __wrap_syscall(long number, ...);

/* notify.c passes three arguments at most to what is not played here. */
long __real_syscall(long number, ...);

long
__wrap_syscall(long number, ...)
{
	long a, b, c;
	va_list args;

	if (number == SYS_io_setup && without_aio) {
		errno = EAGAIN;
		return -1;
	}
	va_start(args, number);
	a = va_arg(args, long);
	b = va_arg(args, long);
	c = va_arg(args, long);
	va_end(args);
	contexts += (number == SYS_io_setup) - (number == SYS_io_destroy);
	return __real_syscall(number, a, b, c);
}

static uint64_t
count_of(int fd)
{
	uint64_t count = 0;

	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	return read(fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

static void
set_means(void **state)
{
	without_aio = *state != NULL;
	notify_end(); /* the next call sets up again */
}

static void
test_each_call_counts(void **state)
{
	int fd = eventfd(0, 0), i;

	set_means(state);
	for (i = 0; i < 1000; i++)
		assert_true(notify_send(fd));
	assert_int_equal(count_of(fd), 1000);
	close(fd);
}

static void
test_a_full_counter_that_blocks_does_not(void **state)
{
	int fd = eventfd(0, 0);
	uint64_t count = FULL;

	set_means(state);
	assert_int_equal(write(fd, &count, sizeof(count)), sizeof(count));
	notify_send(fd); /* this is the test: it returns */
	/* a write is not tried again for nothing */
	assert_true(notify_send(fd) == (*state == NULL));
	assert_true(count_of(fd) >= FULL);
	close(fd);
}

static void
test_only_eventfds_are_signalled(void **state)
{
	int pipes[2], null = open("/dev/null", O_RDONLY);

	set_means(state);
	assert_int_equal(pipe(pipes), 0);
	assert_false(notify_send(null));
	assert_false(notify_send(-1));
	if (*state == NULL) /* a write would not tell */
		assert_false(notify_send(pipes[1]));
	close(pipes[0]);
	close(pipes[1]);
	close(null);
}

static void *
notify_and_end(void *arg)
{
	bool sent = notify_send(*(int *)arg);

	notify_end();
	return sent ? arg : NULL;
}

static void
test_threads_give_their_contexts_back(void **state)
{
	int fd = eventfd(0, 0), i, before;
	pthread_t thread;
	void *sent;

	set_means(state);
	before = contexts;
	for (i = 0; i < 3; i++) {
		assert_int_equal(pthread_create(&thread, NULL, notify_and_end, &fd), 0);
		assert_int_equal(pthread_join(thread, &sent), 0);
		assert_ptr_equal(sent, &fd);
	}
	assert_int_equal(count_of(fd), 3);
	assert_int_equal(contexts, before);
	close(fd);
}

static struct device packed = { .packed = true, .event_idx = true };

static struct virtqueue
packed_virtqueue(struct vring_packed_desc_event *event, int callfd)
{
	return (struct virtqueue){ .packed = true, .usable = true, .size = RING,
		.notify_fd = callfd, .driver_event = event, .signalled_valid = true };
}

/*
 * What librte_vhost and drivers make of the n-th place of a packed ring: bit 15 is the wrap
 * counter.
 */
static uint16_t
place(unsigned int n)
{
	return (uint16_t)(n % RING | (n / RING % 2 ? 0 : 0x8000));
}

/* Whether a ring notifies of the places from old to now, of which the last is not used yet. */
static bool
notifies(struct virtqueue *vq, unsigned int old, unsigned int now)
{
	vq->signalled_used = place(old);
	vq->published = place(now);
	vring_notify(&packed, vq);
	assert_int_equal(vq->signalled_used, place(now));
	return count_of(vq->notify_fd) > 0;
}

static void
test_packed_ring_with_event_index(void **state)
{
	struct vring_packed_desc_event event = { .flags = VRING_PACKED_EVENT_FLAG_DESC };
	struct virtqueue vq = packed_virtqueue(&event, eventfd(0, 0));
	unsigned int old, n, wanted;

	set_means(state);
	for (old = 0; old < 2 * RING; old++) {
		for (n = 1; n <= RING; n++) {
			for (wanted = old; wanted < old + 2 * RING; wanted++) {
				event.off_wrap = place(wanted);
				assert_int_equal(notifies(&vq, old, old + n), wanted < old + n);
			}
		}
	}
	event.off_wrap = RING; /* of no place */
	assert_true(notifies(&vq, 0, 1));
	close(vq.notify_fd);
}

static void
test_packed_ring_by_flags(void **state)
{
	struct vring_packed_desc_event event = { .off_wrap = place(4) };
	struct virtqueue vq = packed_virtqueue(&event, eventfd(0, 0));

	set_means(state);
	event.flags = VRING_PACKED_EVENT_FLAG_ENABLE;
	assert_true(notifies(&vq, 0, 1));
	assert_false(notifies(&vq, 1, 1)); /* nothing was used */
	event.flags = VRING_PACKED_EVENT_FLAG_DISABLE;
	assert_false(notifies(&vq, 1, 2));
	event.flags = VRING_PACKED_EVENT_FLAG_DESC;
	assert_false(notifies(&vq, 2, 3));
	packed.event_idx = false; /* and so a value that is not known */
	assert_true(notifies(&vq, 3, 4));
	packed.event_idx = true;
	close(vq.notify_fd);
}

int
main(void)
{
	static bool timer = true;
#define BOTH(name)                                                                                 \
	cmocka_unit_test(name), { #name " without asynchronous I/O", name, NULL, NULL, &timer }
	const struct CMUnitTest tests[] = {
		BOTH(test_each_call_counts),
		BOTH(test_a_full_counter_that_blocks_does_not),
		BOTH(test_only_eventfds_are_signalled),
		cmocka_unit_test(test_threads_give_their_contexts_back),
		cmocka_unit_test(test_packed_ring_with_event_index),
		cmocka_unit_test(test_packed_ring_by_flags),
	};

	return cmocka_run_group_tests(tests, start_eal, NULL);
}
