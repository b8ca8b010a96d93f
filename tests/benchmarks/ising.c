/* Plain C updates of the 2D Ising model, one chain, one thread: a yardstick for the numba kernels.
   gcc -O3 -march=native -DL=64 ising.c -o ising -lm && ./ising BETA N_SWEEPS N_CLUSTERS */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
static uint64_t s[4]={1,2,3,4};
static inline uint64_t rotl(uint64_t x,int k){return (x<<k)|(x>>(64-k));}
static inline uint64_t nxt(){uint64_t r=rotl(s[1]*5,7)*9,t=s[1]<<17;s[2]^=s[0];s[3]^=s[1];s[1]^=s[2];s[0]^=s[3];s[2]^=t;s[3]=rotl(s[3],45);return r;}
static int8_t x[L][L];
static int stack[L*L];
static double now(){struct timespec a;clock_gettime(CLOCK_PROCESS_CPUTIME_ID,&a);return 1e9*a.tv_sec+a.tv_nsec;}
static double energy(){long e=0;for(int i=0;i<L;i++)for(int j=0;j<L;j++)e-=x[i][j]*(x[i][j+1<L?j+1:0]+x[i+1<L?i+1:0][j]);return (double)e/(L*L);}
static uint64_t word(double p){return p>=1?UINT64_MAX:(uint64_t)(p*0x1p64);}
/* even sites, then odd ones; a table of probabilities, compared with random words */
static double sweeps(int n,const uint64_t*p){double start=now();
  for(int t=0;t<n;t++)for(int parity=0;parity<2;parity++)for(int i=0;i<L;i++){int up=i?i-1:L-1,down=i+1<L?i+1:0;
    for(int j=(i+parity)&1;j<L;j+=2){int g=x[i][j]*(x[up][j]+x[down][j]+x[i][j?j-1:L-1]+x[i][j+1<L?j+1:0]);x[i][j]=nxt()<p[(g+4)/2]?-x[i][j]:x[i][j];}}
  return (now()-start)/n/((double)L*L);}
static double wolff(int n,uint64_t bond){double start=now();
  for(int t=0;t<n;t++){int first=nxt()%(L*L),size=1;int8_t old=x[0][first];int8_t*f=&x[0][0];f[first]=-old;stack[0]=first;
    while(size){int k=stack[--size],i=k/L,j=k%L;int near[4]={i*L+(j+1<L?j+1:0),i*L+(j?j-1:L-1),(i+1<L?i+1:0)*L+j,(i?i-1:L-1)*L+j};
      for(int d=0;d<4;d++)if(f[near[d]]==old&&nxt()<bond){f[near[d]]=-old;stack[size++]=near[d];}}}
  return (now()-start)/n;}
int main(int n_args,char**v){double beta=atof(v[1]);uint64_t m[5],h[5];
  for(int k=0;k<5;k++){double w=exp(-2*beta*(2*k-4));m[k]=word(w);h[k]=word(w/(1+w));}
  for(int i=0;i<L;i++)for(int j=0;j<L;j++)x[i][j]=1;
  wolff(200,word(1-exp(-2*beta)));
  printf("metropolis %.3f %.4f\n",sweeps(atoi(v[2]),m),energy());
  printf("heatbath %.3f %.4f\n",sweeps(atoi(v[2]),h),energy());
  printf("wolff %.3f %.4f\n",wolff(atoi(v[3]),word(1-exp(-2*beta))),energy());}
