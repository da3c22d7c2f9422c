/* A PKCS#11 library between a program and SoftHSM that has a fault when it is told to.
 *
 * What it is told stands in a file that the test maps too (FAULTY_PLAN), as 32-bit words: how many calls are left until
 * the fault (0: none is to come), to which function they must be (its place in CK_FUNCTION_LIST, or ANY), what the fault
 * is, the value it returns or the microseconds it takes longer, how many faults there were, how many calls. While `gone` is set, the token is unplugged.
 *
 * Every function of PKCS#11 takes words and returns a word, so that one wrapper of eight words does for all. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { RETURN = 1, ALTER, HANG, RETURN_FROM_NOW_ON, LATE_FROM_NOW_ON };
enum { ANY = 0xffffffff };
enum { CKR_DEVICE_REMOVED = 0x32 };
enum { GET_SLOT_LIST = 4, OPEN_SESSION = 12, SIGN = 43, DERIVE_KEY = 62, GET_ATTRIBUTE_VALUE = 24, FUNCTIONS = 68 };

struct plan {
	_Atomic uint32_t left, function, action, value, fired, calls, gone;
};

typedef unsigned long word;
typedef word (*call)(word, word, word, word, word, word, word, word);

struct list {
	unsigned char version[2];
	call functions[FUNCTIONS];
};

static struct plan *plan;
static struct list ours, *theirs;

static word wrap(uint32_t n, word a, word b, word c, word d, word e, word f, word g, word h)
{
	atomic_fetch_add(&plan->calls, 1);
	if (atomic_load(&plan->gone) && n >= GET_SLOT_LIST) {
		if (n != GET_SLOT_LIST)
			return CKR_DEVICE_REMOVED;
		*(word *)c = 0;
		return 0;
	}
	uint32_t action = 0, function = atomic_load(&plan->function);
	if (function == ANY || function == n) {
		uint32_t left = atomic_load(&plan->left);
		while (left > 0 && !atomic_compare_exchange_weak(&plan->left, &left, left - 1))
			;
		if (left == 1) {
			action = atomic_load(&plan->action);
			atomic_fetch_add(&plan->fired, 1);
			if (action == RETURN_FROM_NOW_ON || action == LATE_FROM_NOW_ON)
				atomic_store(&plan->left, 1);
		}
	}
	if (action == HANG)
		for (;;)
			pause();
	if (action == LATE_FROM_NOW_ON)
		usleep(atomic_load(&plan->value));
	if (action == RETURN || action == RETURN_FROM_NOW_ON)
		return atomic_load(&plan->value);
	word result = theirs->functions[n](a, b, c, d, e, f, g, h);
	if (action == ALTER && n == SIGN && result == 0 && d != 0) {
		unsigned char *signature = (unsigned char *)d;
		signature[*(word *)e / 2] ^= 1;
	}
	return result;
}

#define WRAP(n) static word wrap##n(word a, word b, word c, word d, word e, word f, word g, word h) { return wrap(n, a, b, c, d, e, f, g, h); }
#define TEN(m, t) m(t##0) m(t##1) m(t##2) m(t##3) m(t##4) m(t##5) m(t##6) m(t##7) m(t##8) m(t##9)
#define FROM4(m) m(4) m(5) m(6) m(7) m(8) m(9) TEN(m, 1) TEN(m, 2) TEN(m, 3) TEN(m, 4) TEN(m, 5) m(60) m(61) m(62) m(63) m(64) m(65) m(66) m(67)
FROM4(WRAP)

static word get_function_list(struct list **list);

__attribute__((visibility("default"))) word C_GetFunctionList(struct list **list)
{
	return get_function_list(list);
}

static word get_function_list(struct list **list)
{
	if (theirs == NULL) {
		int fd = open(getenv("FAULTY_PLAN"), O_RDWR);
		void *library = dlopen(getenv("FAULTY_LIBRARY"), RTLD_NOW | RTLD_LOCAL);
		word (*get)(struct list **) = NULL;
		if (library != NULL)
			*(void **)&get = dlsym(library, "C_GetFunctionList");
		plan = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (fd < 0 || plan == MAP_FAILED || get == NULL || get(&theirs) != 0)
			return 5; /* CKR_GENERAL_ERROR */
		ours = *theirs;
#define PUT(n) ours.functions[n] = wrap##n;
		FROM4(PUT)
		ours.functions[3] = (call)(void *)get_function_list;
	}
	*list = &ours;
	return 0;
}
